//! The parts of Rocket's own configuration that matter here.

use figment::{Figment, value::Value};
use rocket::Config;

/// The parts of Rocket's own configuration that matter here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RocketConfig {
    /// Whether the selected profile is Rocket's debug profile.
    pub debug: bool,
    pub port: u16,
    /// Whether Rocket itself terminates TLS.
    pub tls: bool,
    /// Whether it asks clients for certificates.
    pub mutual_tls: bool,
}

impl RocketConfig {
    pub(crate) fn of(figment: &Figment) -> RocketConfig {
        // With its feature `tls`, Rocket's defaults have an empty value.
        let is_set = |key| match figment.find_value(key) {
            Ok(Value::Empty(..)) | Err(_) => false,
            Ok(Value::Dict(_, table)) => !table.is_empty(),
            Ok(_) => true,
        };
        let tls = is_set("tls");
        RocketConfig {
            debug: *figment.profile() == Config::DEBUG_PROFILE,
            port: figment.extract_inner("port").unwrap_or(8000),
            tls,
            mutual_tls: tls && is_set("tls.mutual"),
        }
    }
}

#[cfg(test)]
mod tests {
    use figment::{
        providers::Serialized,
        value::{Dict, Empty, Value},
    };

    use super::*;

    #[test]
    fn an_empty_value_is_not_tls() {
        let read = |tls: Option<Value>| {
            let mut figment = Figment::new();
            if let Some(tls) = tls {
                figment = figment.merge(Serialized::default("tls", tls));
            }
            let config = RocketConfig::of(&figment);
            (config.tls, config.mutual_tls)
        };
        let table = |text: &str| Value::from(Dict::from([(text.to_owned(), Value::from("file.pem"))]));
        let mutual = |value: Value| Value::from(Dict::from([("mutual".to_owned(), value)]));
        for (tls, expected) in [
            (None, (false, false)),
            (Some(Empty::None.into()), (false, false)),
            (Some(Empty::Unit.into()), (false, false)),
            (Some(Value::from(Dict::new())), (false, false)),
            (Some(table("certs")), (true, false)),
            (Some(mutual(Value::from(Dict::new()))), (true, false)),
            (Some(mutual(table("ca_certs"))), (true, true)),
        ] {
            assert_eq!(read(tls.clone()), expected, "{tls:?}");
        }
        assert!(!RocketConfig::of(&rocket::Config::figment()).tls);
    }
}
