//! An authority of the tests' own and what it signs, and one that nobody trusts.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType, date_time_ymd,
};

/// The name, beside its address, that the servers' certificates carry.
pub const SERVER_NAME: &str = "servers.test";

/// Paths of PEM files.
pub struct Certificates {
    /// The authority that signed all the others.
    pub ca: PathBuf,
    /// An authority that signed nothing here.
    pub other_ca: PathBuf,
    pub server: Pair,
    /// Of the same server, and no longer valid.
    pub expired: Pair,
    pub client: Pair,
    folder: PathBuf,
    authority: Issuer,
}

/// A certificate and its key.
pub struct Pair {
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// Both in one file, as Java's PEM stores want it.
    pub both: PathBuf,
}

type Issuer = CertifiedIssuer<'static, KeyPair>;

impl Certificates {
    /// Makes all of them in `folder`; `address` is the servers'.
    pub fn make(folder: &Path, address: &str) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let authority = authority("iotctl tests")?;
        let other = authority_file(folder, "other-ca", &self::authority("somebody else")?)?;
        let server = |name: &str| -> anyhow::Result<CertificateParams> {
            let mut params = CertificateParams::new(vec![SERVER_NAME.to_owned()])?;
            params.subject_alt_names.push(SanType::IpAddress(address.parse()?));
            params.distinguished_name.push(DnType::CommonName, name);
            // The broker shows it to itself, too.
            params.extended_key_usages =
                vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
            Ok(params)
        };
        let mut expired = server("server")?;
        expired.not_before = date_time_ymd(2020, 1, 1);
        expired.not_after = date_time_ymd(2021, 1, 1);
        let mut client = CertificateParams::new(Vec::new())?;
        client.distinguished_name.push(DnType::CommonName, "client");
        client.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        Ok(Self {
            ca: authority_file(folder, "ca", &authority)?,
            other_ca: other,
            server: Pair::make(folder, "server", server("server")?, &authority)?,
            expired: Pair::make(folder, "expired", expired, &authority)?,
            client: Pair::make(folder, "client", client, &authority)?,
            folder: folder.to_owned(),
            authority,
        })
    }

    /// A further client's, for its name, which is valid until `lifetime` from now.
    pub fn client_for(&self, name: &str, lifetime: Duration) -> anyhow::Result<Pair> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.not_after =
            date_time_ymd(1970, 1, 1) + (SystemTime::now().duration_since(UNIX_EPOCH)? + lifetime);
        Pair::make(&self.folder, name, params, &self.authority)
    }
}

impl Pair {
    fn make(folder: &Path, name: &str, params: CertificateParams, issuer: &Issuer) -> anyhow::Result<Self> {
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, issuer)?;
        let file = |suffix: &str| folder.join(format!("{name}{suffix}.pem"));
        let pair = Self { certificate: file(""), key: file("-key"), both: file("-both") };
        std::fs::write(&pair.certificate, certificate.pem())?;
        std::fs::write(&pair.key, key.serialize_pem())?;
        std::fs::write(&pair.both, format!("{}{}", key.serialize_pem(), certificate.pem()))?;
        Ok(pair)
    }
}

fn authority(name: &str) -> anyhow::Result<Issuer> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?)
}

fn authority_file(folder: &Path, name: &str, authority: &Issuer) -> anyhow::Result<PathBuf> {
    let path = folder.join(format!("{name}.pem"));
    std::fs::write(&path, authority.pem())?;
    Ok(path)
}
