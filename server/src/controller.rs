//! Who answers for the data of a deployment.

use clap::Args;

/// A name or an address is no longer than this.
const BYTES_MAX: usize = 256;

/// The controller, as the policy names it.
#[derive(Debug, Clone, Default, Args)]
pub struct ControllerArgs {
    /// Name of the controller, which answers for the data of this deployment; `likeness policy` prints it
    #[arg(long, env = "LIKENESS_CONTROLLER", value_name = "NAME", value_parser = stated)]
    pub controller: Option<String>,

    /// Address at which the controller is reached about personal data
    #[arg(long, env = "LIKENESS_CONTROLLER_CONTACT", value_name = "ADDRESS", value_parser = stated)]
    pub controller_contact: Option<String>,
}

fn stated(text: &str) -> Result<String, String> {
    let fits = (1..=BYTES_MAX).contains(&text.len()) && !text.chars().any(char::is_control);
    if fits {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "expected 1 to {BYTES_MAX} bytes without control characters"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_has_one_line_and_a_limit() {
        assert_eq!(stated("Example Ltd").as_deref(), Ok("Example Ltd"));
        for refused in ["", "two\nlines", &"x".repeat(257)] {
            assert!(stated(refused).is_err());
        }
    }
}
