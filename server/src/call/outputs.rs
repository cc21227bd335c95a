//! What replies come to, for the logs: counts, and the best similarity where the reply tells it, rounded.

use likeness_proto::v1;
use likeness_proto::v1::photograph_outcome::Outcome;

use crate::logs::Output;

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn admitted(outcomes: &[v1::PhotographOutcome], duplicates: &[v1::Match], output: Output) -> Output {
    let rejected = |outcome: &&v1::PhotographOutcome| matches!(outcome.outcome, Some(Outcome::Rejection(_)));
    let rejected = outcomes.iter().filter(rejected).count();
    Output {
        faces: count(outcomes.len() - rejected),
        rejected: count(rejected),
        named: count(duplicates.len()),
        ..output
    }
}

pub fn enrolled(reply: &v1::EnrollPersonResponse, output: Output) -> Output {
    admitted(&reply.outcomes, &reply.duplicates, output)
}

pub fn added(reply: &v1::AddFacesResponse, output: Output) -> Output {
    admitted(&reply.outcomes, &reply.duplicates, output)
}

pub fn imported(imported: &v1::PersonImported) -> Output {
    admitted(&imported.outcomes, &[], Output::default())
}

pub fn listed(reply: &v1::ListPersonsResponse, output: Output) -> Output {
    Output {
        named: count(reply.persons.len()),
        ..output
    }
}

pub fn logged(reply: &v1::ListRunningLogResponse, output: Output) -> Output {
    Output {
        named: count(reply.rows.len()),
        ..output
    }
}

pub fn detected(reply: &v1::DetectFacesResponse, output: Output) -> Output {
    Output {
        faces: count(reply.faces.len()),
        ..output
    }
}

pub fn compared(reply: &v1::CompareFacesResponse, output: Output) -> Output {
    Output { faces: 2, ..output }.with_similarity(reply.similarity)
}

pub fn verified(reply: &v1::VerifyPersonResponse, output: Output) -> Output {
    Output { faces: 1, ..output }.with_similarity(reply.similarity)
}

pub fn searched(reply: &v1::SearchPersonsResponse, output: Output) -> Output {
    let matches = reply.results.iter().flat_map(|face| &face.matches);
    let best = matches
        .clone()
        .filter_map(|found| found.similarity)
        .max_by(f32::total_cmp);
    let output = Output {
        faces: count(reply.results.len()),
        rejected: count(reply.rejected.len()),
        named: count(matches.count()),
        ..output
    };
    output.with_similarity(best)
}
