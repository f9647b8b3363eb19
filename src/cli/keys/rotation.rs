//! The three steps of a roll-over, in which the provider never sees a signature of a key that it does not know.
//!
//! The file has no other state than its keys: the first one that can sign is active, a second one is the next one, and
//! one without a private part is a former one.

use serde_json::{Map, Value};
use time::OffsetDateTime;

use super::generated_key::KeyAlgorithm;
use crate::{cli::Failure, printable::excerpt, token::ClientKeys};

/// How long a step has to wait for the one before it, in seconds. The app's keys may be cached for five minutes;
/// providers that read them once in a while do so within an hour.
const PAUSE: i64 = 60 * 60;

/// What was done, with the `kid` of each key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    Published { new: String, active: String },
    Activated { new: String, former: String },
    Removed { former: Vec<String>, active: String },
}

/// Makes the next step.
pub(super) fn rotate(
    keys: &mut Vec<Value>,
    now: OffsetDateTime,
    at_once: bool,
    new_key: impl FnOnce(KeyAlgorithm) -> Result<Map<String, Value>, Failure>,
) -> Result<Step, Failure> {
    let places = |is_wanted: fn(&Value) -> bool| -> Vec<usize> {
        let wanted = keys.iter().enumerate().filter(|(_, key)| is_wanted(key));
        wanted.map(|(place, _)| place).collect()
    };
    let (signing, former) = (places(can_sign), places(is_former));
    let Some(&active) = signing.first() else {
        return Err(Failure::new(
            "no key of the file can sign",
            "generate a file with `rocket-oidc keys new`",
        ));
    };
    let now = now.unix_timestamp();
    let wait = |key: &Value, member: &str, done: &str| {
        let since = key.get(member).and_then(Value::as_i64).map(|at| now.saturating_sub(at));
        match since.filter(|since| !at_once && *since < PAUSE) {
            None => Ok(()),
            Some(since) => Err(Failure::new(
                format!("the key {} was {done} {} minutes ago", kid(key), since.max(0) / 60),
                "wait until an hour has passed and the app was restarted; or pass `--now`, if the provider has read the \
                 keys since",
            )),
        }
    };
    // 3.
    if !former.is_empty() {
        wait(&keys[active], "nbf", "activated")?;
        let active = kid(&keys[active]);
        let former = former.iter().map(|place| kid(&keys[*place])).collect();
        keys.retain(|key| !is_former(key));
        return Ok(Step::Removed { former, active });
    }
    // 2.
    if let Some(&next) = signing.get(1) {
        wait(&keys[next], "iat", "published")?;
        if let Some(key) = keys[active].as_object_mut() {
            key.retain(|member, _| !PRIVATE.contains(&member.as_str()));
        }
        let former = kid(&keys[active]);
        let mut key = keys.remove(next);
        key["nbf"] = now.into();
        let new = kid(&key);
        keys.insert(0, key);
        return Ok(Step::Activated { new, former });
    }
    // 1.
    let alg = keys[active].get("alg").and_then(Value::as_str);
    let new = new_key(alg.and_then(KeyAlgorithm::of).unwrap_or(KeyAlgorithm::Es256))?;
    let (new, active) = (Value::Object(new), kid(&keys[active]));
    keys.push(new.clone());
    Ok(Step::Published { new: kid(&new), active })
}

/// Members of private keys (RFC 7518 §6.2.2, §6.3.2).
const PRIVATE: [&str; 7] = ["d", "p", "q", "dp", "dq", "qi", "oth"];

/// As [`ClientKeys`] decides it.
fn can_sign(key: &Value) -> bool {
    ClientKeys::parse(&serde_json::json!({ "keys": [key] }).to_string()).is_ok()
}

/// A public key for signatures, which does not sign any more.
fn is_former(key: &Value) -> bool {
    key.get("d").is_none() && key.get("use").is_none_or(|it| it == "sig")
}

/// The `kid`, or the thumbprint as its beginning would be shown.
fn kid(key: &Value) -> String {
    match key.get("kid").and_then(Value::as_str) {
        Some(kid) => excerpt(kid),
        None => "without a `kid`".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{super::generated_key::generate, *};

    fn at(seconds: i64) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(1_700_000_000 + seconds).unwrap()
    }

    fn key(kid: &str, seconds: i64) -> Map<String, Value> {
        let mut key = generate(KeyAlgorithm::EdDsa, at(seconds)).unwrap();
        key.insert("kid".to_owned(), kid.into());
        key
    }

    fn step(keys: &mut Vec<Value>, seconds: i64, new: &str) -> Result<Step, Failure> {
        rotate(keys, at(seconds), false, |_| Ok(key(new, seconds)))
    }

    /// The active `kid`, and the published ones.
    fn state(keys: &[Value]) -> (String, Vec<String>) {
        let keys = ClientKeys::parse(&json!({ "keys": keys }).to_string()).unwrap();
        let published = keys.published().iter().map(|key| key.kid().to_owned());
        (keys.active().kid().unwrap().to_owned(), published.collect())
    }

    /// A key signs only if it was published in the step before, and stays published in the step after.
    #[test]
    fn no_step_signs_with_a_key_that_was_not_published_before() {
        let mut keys = vec![Value::Object(key("a", 0))];
        let mut former = state(&keys);
        let names = ["b", "-", "-", "c", "-", "-"];
        for (count, name) in names.into_iter().enumerate() {
            step(&mut keys, 3_600 * (count as i64 + 1), name).unwrap();
            let (active, published) = state(&keys);
            assert!(former.1.contains(&active), "{active} in {former:?}");
            // A node that was not restarted yet signs with the former key.
            assert!(published.contains(&former.0), "{former:?} in {published:?}");
            former = (active, published);
        }
        assert_eq!(former, ("c".to_owned(), vec!["c".to_owned()]));
    }

    #[test]
    fn a_step_waits_for_an_hour_after_the_one_before() {
        let mut keys = vec![Value::Object(key("a", 0))];
        step(&mut keys, 10, "b").unwrap();
        let error = step(&mut keys, 10 + 3_599, "-").unwrap_err();
        assert_eq!(error.cause, "the key b was published 59 minutes ago");
        assert_eq!(
            step(&mut keys, 10 + 3_600, "-").unwrap(),
            Step::Activated {
                new: "b".into(),
                former: "a".into()
            }
        );
        assert_eq!(keys[1].get("d"), None);
        let error = step(&mut keys, 10 + 3_600 + 60, "-").unwrap_err();
        assert_eq!(error.cause, "the key b was activated 1 minutes ago");
        let removed = rotate(&mut keys, at(10 + 3_700), true, |_| unreachable!()).unwrap();
        assert_eq!(
            removed,
            Step::Removed {
                former: vec!["a".into()],
                active: "b".into()
            }
        );
    }
}
