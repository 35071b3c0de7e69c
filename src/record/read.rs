//! Reading a run of any schema.

use serde::Deserialize;

use super::{Run, SCHEMA, first};

impl Run {
    /// Reads a run's JSON.
    ///
    /// # Errors
    /// [`BadRun::Newer`] for a schema newer than [`SCHEMA`], [`BadRun::Json`] for anything that is not a run.
    pub fn from_json(text: &str) -> Result<Run, BadRun> {
        #[derive(Deserialize)]
        struct Version {
            schema: u32,
        }
        let Version { schema } = serde_json::from_str(text)?;
        match schema {
            ..=1 => Ok(serde_json::from_str::<first::Run>(text)?.into()),
            SCHEMA => Ok(serde_json::from_str(text)?),
            _ => Err(BadRun::Newer { schema }),
        }
    }
}

/// Why a run cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum BadRun {
    /// Written by a newer version.
    #[error("the run has schema {schema}; this version reads up to {SCHEMA}")]
    Newer {
        /// The version the file names.
        schema: u32,
    },
    /// Not a run.
    #[error("not a run: {0}")]
    Json(#[from] serde_json::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_schema_is_refused_by_its_number() {
        let error = Run::from_json(r#"{"schema": 99, "steps": "whatever"}"#).expect_err("too new");
        assert!(matches!(error, BadRun::Newer { schema: 99 }), "{error}");
        let next = format!(r#"{{"schema": {}}}"#, SCHEMA + 1);
        assert!(matches!(Run::from_json(&next), Err(BadRun::Newer { schema: 3 })));
        assert!(matches!(Run::from_json("{"), Err(BadRun::Json(_))));
    }
}
