//! Whether the numbers of a record can be added up.
//!
//! A record may come from anywhere. Totals, differences and rates are made from its counts all over the place, so the
//! counts are held to what any sum of them needs, once, where the record is read.

use serde_json::Value;

/// The most that all counts of a record may add up to, so that no sum of some of them leaves a signed word.
const LARGEST_TOTAL: u128 = 1 << 62;

/// Fields that are whole numbers and count nothing.
const NO_COUNTS: [&str; 1] = ["seed"];

/// Why a record's numbers cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DoesNotFit {
    #[error("counts that do not fit: all of them add up to more than {LARGEST_TOTAL}")]
    Total,
    #[error("counts that do not fit: {messages} messages of {chunk} bytes are more than {LARGEST_TOTAL}")]
    Payload { messages: u64, chunk: u64 },
}

/// Whether the numbers of a record's JSON can be added up in any way. Text that is not JSON is for others to refuse.
///
/// # Errors
/// See [`DoesNotFit`].
pub(crate) fn check(json: &str) -> Result<(), DoesNotFit> {
    let Ok(value) = serde_json::from_str::<Value>(json) else { return Ok(()) };
    let mut total = 0;
    add(&value, &mut total)?;
    if total > LARGEST_TOTAL { Err(DoesNotFit::Total) } else { Ok(()) }
}

fn add(value: &Value, total: &mut u128) -> Result<(), DoesNotFit> {
    match value {
        Value::Number(number) => {
            let size =
                number.as_u64().map(u128::from).or_else(|| number.as_i64().map(|n| u128::from(n.unsigned_abs())));
            *total = total.saturating_add(size.unwrap_or(0));
        }
        Value::Array(values) => values.iter().try_for_each(|value| add(value, total))?,
        Value::Object(fields) => {
            let of = |name: &str| fields.get(name).and_then(Value::as_u64);
            // A workload: its payload is the product.
            if let (Some(messages), Some(chunk)) = (of("messages"), of("chunk"))
                && u128::from(messages) * u128::from(chunk) > LARGEST_TOTAL
            {
                return Err(DoesNotFit::Payload { messages, chunk });
            }
            let counts = fields.iter().filter(|(name, _)| !NO_COUNTS.contains(&name.as_str()));
            counts.map(|(_, value)| value).try_for_each(|value| add(value, total))?;
        }
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_held_to_what_any_sum_of_them_needs() {
        assert_eq!(check(r#"{"seed": 18446744073709551615, "steps": [{"bytes": 4000000000000000000}]}"#), Ok(()));
        assert_eq!(check(r#"{"steps": [{"bytes": 18446744073709551615}]}"#), Err(DoesNotFit::Total));
        assert_eq!(check(r#"[{"a": 4000000000000000000}, {"b": [4000000000000000000]}]"#), Err(DoesNotFit::Total));
        assert_eq!(check(r#"[-9223372036854775808]"#), Err(DoesNotFit::Total));
        let workload = r#"{"messages": 9000000000000, "chunk": 9000000000000}"#;
        assert!(matches!(check(workload), Err(DoesNotFit::Payload { .. })));
        assert_eq!(check("not JSON"), Ok(()));
    }
}
