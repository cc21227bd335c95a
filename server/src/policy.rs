//! The policy: the table of retention in words, with the controller of the deployment and every destination of data.

mod texts;

use std::fmt::Write as _;

use likeness_engine::retention::{ChangedBy, DESTINATIONS, DataClass, Period};
use likeness_proto::v1;

pub use self::texts::{LANGUAGES, Language, Text};
use crate::controller::ControllerArgs;
use crate::logs::retention::Retention;

const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;
const MB: u64 = 1_000_000;

/// The policy of a server with these settings, in a language.
pub fn reply(region: &str, retention: &Retention, language: Language) -> v1::GetPolicyResponse {
    let classes = DataClass::table(&retention.periods()).into_iter();
    let destinations = DESTINATIONS.iter().map(|destination| v1::PolicyDestination {
        name: destination.name.to_owned(),
        classes: destination
            .classes
            .iter()
            .map(|class| (*class).to_owned())
            .collect(),
    });
    let ControllerArgs {
        controller,
        controller_contact,
    } = retention.controller.clone();
    v1::GetPolicyResponse {
        call: None,
        region: region.to_owned(),
        classes: classes.map(|class| row(&class, language)).collect(),
        controller: controller.unwrap_or_default(),
        controller_contact: controller_contact.unwrap_or_default(),
        destinations: destinations.collect(),
        note: texts::NOTE[language].to_owned(),
    }
}

fn row(class: &DataClass, language: Language) -> v1::RetentionClass {
    v1::RetentionClass {
        name: class.name.to_owned(),
        title: texts::title(class.name)[language].to_owned(),
        kept: kept(class, language),
        changed_by: changed_by(class.changed_by, language),
        seconds: match class.period {
            Period::Seconds(seconds) => seconds,
            _ => 0,
        },
        bytes: match class.period {
            Period::Bytes(bytes) => bytes,
            _ => 0,
        },
        later: class.later,
        purpose: texts::purpose(class.purpose)[language].to_owned(),
        legal_basis: texts::basis(class.basis)[language].to_owned(),
        place: texts::place(class.place)[language].to_owned(),
        destruction: texts::destruction(class.destruction)[language].to_owned(),
    }
}

fn kept(class: &DataClass, language: Language) -> String {
    let number = |text: Text, number: u64| text[language].replace("{}", &number.to_string());
    let period = match class.period {
        Period::Seconds(1) => texts::ONE_SECOND[language].to_owned(),
        Period::Seconds(seconds) if seconds <= DAY => number(texts::HOURS, seconds / HOUR),
        Period::Seconds(seconds) => number(texts::DAYS, seconds / DAY),
        Period::Bytes(bytes) => number(texts::MEGABYTES, bytes / MB),
        other => texts::period(other)[language].to_owned(),
    };
    match class.later {
        false => period,
        true => format!("{period}{}", texts::NOT_YET[language]),
    }
}

fn changed_by(role: ChangedBy, language: Language) -> String {
    let text = texts::changed_by(role)[language];
    match role {
        ChangedBy::OperatorShortens(option) => format!("{text} (`{option}`)"),
        _ => text.to_owned(),
    }
}

/// The policy for people to read.
pub fn text(policy: &v1::GetPolicyResponse, language: Language) -> String {
    let label = |text: Text| text[language];
    let stated = |text: &str| match text {
        "" => label(texts::NOT_STATED).to_owned(),
        text => text.to_owned(),
    };
    let destinations = policy.destinations.iter().map(|destination| {
        let classes = destination.classes.join(", ");
        format!("{}: {classes}", destination.name)
    });
    let destinations: Vec<_> = destinations.collect();
    let destinations = match destinations.is_empty() {
        true => label(texts::NO_DESTINATION).to_owned(),
        false => destinations.join("; "),
    };
    let mut text = String::new();
    for (name, value) in [
        (texts::CONTROLLER, stated(&policy.controller)),
        (texts::CONTACT, stated(&policy.controller_contact)),
        (texts::REGION, policy.region.clone()),
        (texts::DESTINATIONS, destinations),
    ] {
        // Writing into a text cannot fail.
        let _ = writeln!(text, "{}: {value}", label(name));
    }
    for class in &policy.classes {
        let _ = writeln!(text, "\n{} ({})", class.title, class.name);
        for (name, value) in [
            (texts::KEPT, &class.kept),
            (texts::CHANGED_BY, &class.changed_by),
            (texts::PURPOSE, &class.purpose),
            (texts::BASIS, &class.legal_basis),
            (texts::PLACE, &class.place),
            (texts::DESTRUCTION, &class.destruction),
        ] {
            let _ = writeln!(text, "  {}: {value}", label(name));
        }
    }
    let _ = writeln!(text, "\n{}", policy.note);
    text
}

/// The table as it stands in the documentation.
pub fn page(policy: &v1::GetPolicyResponse) -> String {
    let mut page =
        "| class | data | kept | changed by | purpose | legal basis | place | destruction |\n".to_owned();
    page += "|---|---|---|---|---|---|---|---|\n";
    for class in &policy.classes {
        let cells = [
            &class.title,
            &class.kept,
            &class.changed_by,
            &class.purpose,
            &class.legal_basis,
            &class.place,
            &class.destruction,
        ];
        let cells: Vec<_> = cells.iter().map(|cell| cell.as_str()).collect();
        let _ = writeln!(page, "| `{}` | {} |", class.name, cells.join(" | "));
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(language: Language) -> v1::GetPolicyResponse {
        reply("here", &Retention::default(), language)
    }

    #[test]
    fn every_text_of_the_policy_is_there_in_every_language_and_in_no_other() {
        let is_chinese = |text: &str| text.chars().any(|c| ('\u{4e00}'..='\u{9fff}').contains(&c));
        let english = policy(Language::En);
        for language in LANGUAGES {
            let policy = policy(language);
            assert_eq!(policy.classes.len(), english.classes.len());
            assert_eq!(is_chinese(&policy.note), language == Language::Zh);
            assert!(language == Language::En || policy.note != english.note);
            for (class, english) in policy.classes.iter().zip(&english.classes) {
                for (text, english) in [
                    (&class.title, &english.title),
                    (&class.kept, &english.kept),
                    (&class.changed_by, &english.changed_by),
                    (&class.purpose, &english.purpose),
                    (&class.legal_basis, &english.legal_basis),
                    (&class.place, &english.place),
                    (&class.destruction, &english.destruction),
                ] {
                    assert!(!text.is_empty(), "{language:?}: {}", class.name);
                    assert_eq!(is_chinese(text), language == Language::Zh, "{text}");
                    assert!(
                        language == Language::En || text != english,
                        "not translated: {text}"
                    );
                }
            }
        }
    }

    #[test]
    fn the_policy_tells_who_controls_the_data_or_that_this_is_not_stated() {
        let text_of = |policy: &v1::GetPolicyResponse, language| text(policy, language);
        assert!(text_of(&policy(Language::En), Language::En).contains("not stated"));
        let mut retention = Retention::default();
        retention.controller.controller = Some("Example Ltd".to_owned());
        retention.controller.controller_contact = Some("privacy@example.org".to_owned());
        for language in LANGUAGES {
            let policy = reply("here", &retention, language);
            let text = text_of(&policy, language);
            assert!(
                text.contains(": Example Ltd\n")
                    && text.contains(": privacy@example.org\n")
                    && text.contains(": here\n")
            );
        }
    }

    #[test]
    fn a_destination_is_printed_with_its_classes_and_there_is_none() {
        let mut policy = policy(Language::En);
        assert!(text(&policy, Language::En).contains("none"));
        assert!(policy.destinations.is_empty());
        policy.destinations.push(v1::PolicyDestination {
            name: "archive".to_owned(),
            classes: vec!["operation_log".to_owned(), "error_log".to_owned()],
        });
        assert!(text(&policy, Language::En).contains("archive: operation_log, error_log"));
    }

    #[test]
    fn every_basis_that_needs_one_names_an_article_and_the_note_asks_for_confirmation() {
        let policy = policy(Language::En);
        for class in &policy.classes {
            let named = class.legal_basis.contains("GDPR Art.");
            let none_needed = class.legal_basis.starts_with("none needed");
            assert!(named != none_needed, "{}: {}", class.name, class.legal_basis);
        }
        assert!(policy.note.contains("confirm"));
    }
}
