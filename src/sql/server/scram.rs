//! SCRAM-SHA-256 (RFC 5802 and 7677) on the server's side, from verifiers as PostgreSQL keeps them: neither the file nor an
//! exchange holds anything with which somebody could log in.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::{SecureRandom, SystemRandom};
use ring::{digest, hmac, pbkdf2};

/// The only mechanism that is offered.
pub(super) const MECHANISM: &str = "SCRAM-SHA-256";
/// PostgreSQL's default.
const ITERATIONS: u32 = 4096;
const MOST_ITERATIONS: u32 = 10_000_000;
const SALT_BYTES: usize = 16;
const KEY_BYTES: usize = 32;

type Key = [u8; KEY_BYTES];

/// What a server keeps of a password: `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`, as in PostgreSQL's
/// `pg_authid.rolpassword`.
#[derive(Clone, PartialEq, Eq)]
pub struct Verifier {
    iterations: u32,
    salt: Vec<u8>,
    stored_key: Key,
    server_key: Key,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Verifier")
    }
}

impl fmt::Display for Verifier {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { iterations, salt, stored_key, server_key } = self;
        let [salt, stored, server] =
            [&salt[..], &stored_key[..], &server_key[..]].map(|bytes| STANDARD.encode(bytes));
        write!(formatter, "{MECHANISM}${iterations}:{salt}${stored}:{server}")
    }
}

impl FromStr for Verifier {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WRONG: &str = "it is not a SCRAM-SHA-256 verifier (make one by `iotctl serve user NAME`)";
        let parse = || {
            let (iterations, rest) = text.strip_prefix("SCRAM-SHA-256$")?.split_once(':')?;
            let (salt, keys) = rest.split_once('$')?;
            let (stored, server) = keys.split_once(':')?;
            let iterations = iterations.parse().ok().filter(|count| (1..=MOST_ITERATIONS).contains(count))?;
            let salt = STANDARD.decode(salt).ok().filter(|salt| !salt.is_empty())?;
            let key = |text| Key::try_from(STANDARD.decode(text).ok()?).ok();
            Some(Self { iterations, salt, stored_key: key(stored)?, server_key: key(server)? })
        };
        parse().ok_or(WRONG)
    }
}

impl Verifier {
    /// The verifier of a password, with a salt of its own.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn of(password: &str) -> Result<Self, &'static str> {
        let mut salt = vec![0; SALT_BYTES];
        SystemRandom::new().fill(&mut salt).map_err(|_| "the system has no random numbers")?;
        Ok(Self::salted(password, salt, ITERATIONS))
    }

    fn salted(password: &str, salt: Vec<u8>, iterations: u32) -> Self {
        // As PostgreSQL does it: what cannot be normalised is taken as it is.
        let password = stringprep::saslprep(password).unwrap_or(password.into());
        let mut salted = Key::default();
        let count = NonZeroU32::new(iterations).unwrap_or(NonZeroU32::MIN);
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, count, &salt, password.as_bytes(), &mut salted);
        let stored_key = hash(&sign(&salted, b"Client Key"));
        Self { iterations, salt, stored_key, server_key: sign(&salted, b"Server Key") }
    }

    /// What stands in for the verifier of a user who does not exist, so that an exchange with one looks like any other and always
    /// fails. Each name has the same salt each time.
    pub(super) fn of_nobody(secret: &[u8], name: &str) -> Self {
        let derived = |use_for: &str| sign(secret, format!("{use_for}\0{name}").as_bytes());
        Self {
            iterations: ITERATIONS,
            salt: derived("salt")[..SALT_BYTES].to_vec(),
            stored_key: derived("stored key"),
            server_key: derived("server key"),
        }
    }

    /// For a secret that only the server knows.
    pub(super) fn server_key(&self) -> &[u8] {
        &self.server_key
    }
}

/// Why an exchange ended without a login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// A message that is not of the protocol, or asks for what is not offered.
    Malformed(&'static str),
    /// The password is wrong, or there is no such user.
    Refused,
}

/// An exchange, after the client's first message.
#[derive(Debug)]
pub(super) struct Exchange {
    verifier: Verifier,
    /// The first messages of both, which are signed.
    firsts: String,
    /// What the client must repeat.
    channel_binding: String,
    nonce: String,
}

impl Exchange {
    /// Answers the client's first message.
    pub(super) fn begin(verifier: Verifier, first: &[u8]) -> Result<(Self, String), Failure> {
        let mut random = [0; 18];
        SystemRandom::new()
            .fill(&mut random)
            .map_err(|_| Failure::Malformed("the system has no random numbers"))?;
        Self::begin_with(verifier, first, &STANDARD.encode(random))
    }

    fn begin_with(verifier: Verifier, first: &[u8], own_nonce: &str) -> Result<(Self, String), Failure> {
        let first = text(first)?;
        let bare_at = match first.get(..3) {
            // `y`: the client could bind the channel and believes that the server cannot, which is so.
            Some("n,," | "y,,") => 3,
            _ if first.starts_with("p=") => return Err(Failure::Malformed("channel binding is not offered")),
            _ => return Err(Failure::Malformed("authorization identities are not supported")),
        };
        let (header, bare) = first.split_at(bare_at);
        let mut fields = bare.split(',');
        // The name is that of the startup message; the one here is ignored, as PostgreSQL does it.
        let name = fields.next().filter(|name| name.starts_with("n="));
        let nonce = fields.next().and_then(|field| field.strip_prefix("r="));
        let (Some(_), Some(nonce)) = (name, nonce.filter(|nonce| !nonce.is_empty())) else {
            return Err(Failure::Malformed("malformed first message"));
        };
        let nonce = format!("{nonce}{own_nonce}");
        let (salt, iterations) = (STANDARD.encode(&verifier.salt), verifier.iterations);
        let answer = format!("r={nonce},s={salt},i={iterations}");
        let firsts = format!("{bare},{answer}");
        Ok((Self { verifier, firsts, channel_binding: STANDARD.encode(header), nonce }, answer))
    }

    /// Checks the client's proof; the answer proves the server to the client.
    pub(super) fn finish(self, last: &[u8]) -> Result<String, Failure> {
        let last = text(last)?;
        let (signed, proof) = last.rsplit_once(",p=").ok_or(Failure::Malformed("no proof"))?;
        let mut fields = signed.split(',');
        let is_bound =
            fields.next().and_then(|field| field.strip_prefix("c=")) == Some(self.channel_binding.as_str());
        let is_ours = fields.next().and_then(|field| field.strip_prefix("r=")) == Some(self.nonce.as_str());
        let proof = STANDARD.decode(proof).ok().and_then(|proof| Key::try_from(proof).ok());
        let (true, true, Some(proof)) = (is_bound, is_ours, proof) else {
            return Err(Failure::Malformed("malformed final message"));
        };
        let message = format!("{},{signed}", self.firsts);
        let signature = sign(&self.verifier.stored_key, message.as_bytes());
        let mut client_key = proof;
        client_key.iter_mut().zip(signature).for_each(|(byte, other)| *byte ^= other);
        if !is_same(&hash(&client_key), &self.verifier.stored_key) {
            return Err(Failure::Refused);
        }
        Ok(format!("v={}", STANDARD.encode(sign(&self.verifier.server_key, message.as_bytes()))))
    }
}

fn text(bytes: &[u8]) -> Result<&str, Failure> {
    let text = std::str::from_utf8(bytes).map_err(|_| Failure::Malformed("not UTF-8"))?;
    match text.contains('\0') {
        true => Err(Failure::Malformed("a zero byte")),
        false => Ok(text),
    }
}

fn sign(key: &[u8], message: &[u8]) -> Key {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message);
    Key::try_from(tag.as_ref()).unwrap_or_default()
}

fn hash(bytes: &[u8]) -> Key {
    Key::try_from(digest::digest(&digest::SHA256, bytes).as_ref()).unwrap_or_default()
}

/// In a time that does not depend on the bytes.
fn is_same(one: &Key, other: &Key) -> bool {
    one.iter().zip(other).fold(0, |difference, (one, other)| difference | (one ^ other)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 7677.
    const FIRST: &str = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
    const NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
    const ANSWER: &str =
        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
    const LAST: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                        p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    const PROOF: &str = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

    fn verifier(password: &str) -> Verifier {
        Verifier::salted(password, STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap(), 4096)
    }

    #[test]
    fn the_exchange_of_the_rfc_logs_in() {
        let (exchange, answer) = Exchange::begin_with(verifier("pencil"), FIRST.as_bytes(), NONCE).unwrap();
        assert_eq!(answer, ANSWER);
        assert_eq!(exchange.finish(LAST.as_bytes()).unwrap(), PROOF);
    }

    #[test]
    fn a_wrong_password_and_a_user_who_does_not_exist_are_refused_alike() {
        for verifier in [verifier("pencils"), Verifier::of_nobody(b"secret", "user")] {
            let (exchange, answer) = Exchange::begin_with(verifier, FIRST.as_bytes(), NONCE).unwrap();
            assert_eq!(answer.len(), ANSWER.len());
            assert_eq!(exchange.finish(LAST.as_bytes()), Err(Failure::Refused));
        }
        let nobody = |name| Verifier::of_nobody(b"secret", name).salt;
        assert_eq!(nobody("a"), nobody("a"));
        assert_ne!(nobody("a"), nobody("b"));
    }

    #[test]
    fn malformed_messages_are_refused() {
        for first in
            ["", "n,,", "n,,n=,r=", "p=tls-server-end-point,,n=,r=a", "n,a=x,n=,r=a", "n,,m=x,n=,r=a", "é,"]
        {
            let begun = Exchange::begin_with(verifier("pencil"), first.as_bytes(), NONCE);
            assert!(matches!(begun, Err(Failure::Malformed(_))), "{first}");
        }
        let (_, proof) = LAST.rsplit_once(",p=").unwrap();
        for last in [
            String::new(),
            LAST.replace("biws", "eSws"),
            LAST.replace("rOpr", "rOps"),
            LAST.replace(proof, "AAAA"),
            LAST.replace(proof, "not base64"),
            format!("p={proof}"),
        ] {
            let (exchange, _) = Exchange::begin_with(verifier("pencil"), FIRST.as_bytes(), NONCE).unwrap();
            assert!(matches!(exchange.finish(last.as_bytes()), Err(Failure::Malformed(_))), "{last}");
        }
        assert!(Exchange::begin_with(verifier("pencil"), b"n,,n=\xff,r=a", NONCE).is_err());
    }

    #[test]
    fn a_verifier_is_read_as_it_is_written_and_holds_no_password() {
        let made = Verifier::of("pencil").unwrap();
        let text = made.to_string();
        assert_eq!(text.parse(), Ok(made));
        assert!(!text.contains("pencil"));
        // As PostgreSQL 16 keeps the password of the RFC's example.
        let stored = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:\
                      wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
        assert_eq!(verifier("pencil").to_string(), stored);
        for wrong in ["", "pencil", "md5abc", "SCRAM-SHA-256$0:AAAA$AAAA:AAAA", "SCRAM-SHA-256$4096:$a:b"] {
            assert!(Verifier::from_str(wrong).is_err(), "{wrong}");
        }
    }
}
