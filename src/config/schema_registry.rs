//! `[schema_registry]`.

use std::path::PathBuf;
use std::time::Duration;

use super::Secret;
use super::section::{millis, minutes, seconds, section, time};

section! {
    /// Where mappings with format = "avro" or "protobuf" get their schemas, by Confluent's interface.
    "schema_registry" => SchemaRegistryConfig {
        /// Its URL, such as http://registry:8081 or https://host/apis/ccompat/v7.
        url: Option<String>;
        /// User name, if it requires basic authentication. Needs a password.
        username: Option<String>;
        /// Password. Better given as a variable or in password_file.
        password: Option<Secret>;
        /// File whose first line is the password. Use it instead of password.
        password_file: Option<PathBuf>;
        /// PEM file of the trusted certificate authorities. Required if the URL begins with https://.
        ca_file: Option<PathBuf>;
        /// Time limit of a request.
        timeout: Duration = seconds(5), time(millis(1), minutes(10));
    }
}
