//! Payloads that are compressed as a whole, by the device or the bridge (Kafka's own compression is undone before).

use std::io::Read;

use serde::Deserialize;

use crate::reading::Rejection;

/// How payloads are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Compression {
    Gzip,
    Zlib,
    /// Without the header and the checksum of the two before.
    Deflate,
}

impl Compression {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zlib => "zlib",
            Self::Deflate => "deflate",
        }
    }

    /// What the first bytes of a payload tell.
    pub(super) fn of(payload: &[u8]) -> Option<Self> {
        match payload {
            [0x1f, 0x8b, 8, ..] => Some(Self::Gzip),
            // Deflate with the usual window; the two bytes are a multiple of 31.
            [0x78, flags, ..] if (0x7800 | u32::from(*flags)).is_multiple_of(31) => Some(Self::Zlib),
            _ => None,
        }
    }

    /// A small message can become an endless one: no more than `limit` bytes are made of it.
    pub(super) fn expand(self, payload: &[u8], limit: usize) -> Result<Vec<u8>, Rejection> {
        let reader: Box<dyn Read + '_> = match self {
            Self::Gzip => Box::new(flate2::read::MultiGzDecoder::new(payload)),
            Self::Zlib => Box::new(flate2::read::ZlibDecoder::new(payload)),
            Self::Deflate => Box::new(flate2::read::DeflateDecoder::new(payload)),
        };
        let mut expanded = Vec::new();
        let read = reader.take(limit as u64 + 1).read_to_end(&mut expanded);
        match read {
            Ok(bytes) if bytes > limit => Err(Rejection::TooLarge { bytes, limit }),
            Ok(_) => Ok(expanded),
            Err(error) => Err(Rejection::NotInFormat { format: self.name(), problem: error.to_string() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression as Level;

    use super::*;

    fn packed(text: &[u8]) -> [(Compression, Vec<u8>); 3] {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), Level::default());
        let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), Level::default());
        let mut deflate = flate2::write::DeflateEncoder::new(Vec::new(), Level::default());
        gzip.write_all(text).unwrap();
        zlib.write_all(text).unwrap();
        deflate.write_all(text).unwrap();
        [
            (Compression::Gzip, gzip.finish().unwrap()),
            (Compression::Zlib, zlib.finish().unwrap()),
            (Compression::Deflate, deflate.finish().unwrap()),
        ]
    }

    #[test]
    fn a_payload_is_expanded_up_to_its_limit() {
        for (compression, bytes) in packed(b"{\"t\":21.5}") {
            assert_eq!(compression.expand(&bytes, 10), Ok(b"{\"t\":21.5}".to_vec()));
            assert_eq!(compression.expand(&bytes, 9), Err(Rejection::TooLarge { bytes: 10, limit: 9 }));
            assert!(compression.expand(&bytes[..bytes.len() / 2], 100).is_err(), "{compression:?}: cut off");
            assert!(compression.expand(b"{}", 100).is_err());
            if compression != Compression::Deflate {
                assert_eq!(Compression::of(&bytes), Some(compression));
            }
        }
        let zeros = vec![0; 50_000_000];
        let (gzip, bytes) = &packed(&zeros)[0];
        let refused = gzip.expand(bytes, 1_000).unwrap_err();
        assert_eq!(refused, Rejection::TooLarge { bytes: 1_001, limit: 1_000 });
        assert_eq!(Compression::of(b"{\"x\":1}"), None);
        assert_eq!(Compression::of(b"x,y"), None);
    }
}
