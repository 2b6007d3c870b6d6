//! `[http]`.

use std::path::PathBuf;

use super::section::section;

section! {
    /// Login and TLS of everything that iotctl serves by HTTP: the dashboard, and each --metrics-addr.
    "http" => HttpConfig {
        /// File with the hashed tokens of `iotctl token add`. Empty: there is no login.
        tokens_file: Option<PathBuf>;
        /// PEM file with the server's certificate, then the authorities between it and the root. Needs key_file.
        cert_file: Option<PathBuf>;
        /// PEM file with the certificate's key.
        key_file: Option<PathBuf>;
        /// Serve at addresses that other machines can reach without TLS or a login too.
        insecure: bool = false;
    }
}
