//! What floods do to an honest client: `make floods`. The server is the program as it is deployed, with its defaults and
//! 1,024 open files allowed by the soft limit; each flood is a process of the lowest priority, with addresses of
//! its own and from the honest client's. Everything is on loopback, bounded, and ends by itself within five minutes.

mod flood;
mod frames;
mod honest;
mod server;

use std::net::SocketAddr;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use likeness_bench::figures::{Figure, Figures};

use crate::flood::{Kind, Origin};
use crate::honest::{Honest, Seen};
use crate::server::Server;

/// How long each flood lasts, and the honest client is watched before it.
const FLOOD: Duration = Duration::from_secs(7);
const UNLOADED: Duration = Duration::from_secs(3);
/// A flood begins before the honest client is watched, and what it leaves behind ends after it.
const BEGINNING: Duration = Duration::from_secs(1);
const AFTERMATH: Duration = Duration::from_millis(500);
/// An honest client's p99 under a flood without a right to work, in times of its p99 without one.
const RATIO_MAX: f64 = 3.0;
/// Under a flood of work its p99 may be longer by so many of the longest steps that cannot be interrupted.
const STEPS_MAX: f64 = 2.0;
/// The most memory that the server may have resident, under any flood.
const RESIDENT_MIB_MAX: f64 = 2048.0;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let words: Vec<_> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        [] => measure(&Kind::ALL),
        ["only", kind] => match Kind::parse(kind) {
            Some(kind) => measure(&[kind]),
            None => usage(),
        },
        ["flood", kind, origin, address, seconds] => {
            let (kind, origin) = (Kind::parse(kind), Origin::parse(origin));
            let (address, seconds) = (address.parse(), seconds.parse());
            match (kind, origin, address, seconds) {
                (Some(kind), Some(origin), Ok(address), Ok(seconds @ 1..=60)) => {
                    flood::run(kind, origin, address, Duration::from_secs(seconds));
                    ExitCode::SUCCESS
                }
                _ => usage(),
            }
        }
        _ => usage(),
    }
}

fn usage() -> ExitCode {
    let kinds: Vec<_> = Kind::ALL.iter().map(|kind| kind.name()).collect();
    eprintln!(
        "bench-floods: expected nothing, or `only KIND` with a KIND of {}",
        kinds.join(", ")
    );
    ExitCode::FAILURE
}

/// A flood that was met.
struct Met {
    kind: Kind,
    origin: Origin,
    seen: Seen,
    resident_mib: f64,
    flood: String,
}

fn measure(kinds: &[Kind]) -> ExitCode {
    let began = Instant::now();
    let (plain, encrypted) = (Server::start(false), Server::start(true));
    let (honest, over_tls) = (Honest::of(&plain), Honest::of(&encrypted));
    let longest_step = honest.longest_step();
    let (mut unloaded, mut unloaded_over_tls, mut met) = (Seen::default(), Seen::default(), Vec::new());
    // What is done for the first time takes longer.
    for honest in [&honest, &over_tls] {
        honest.watch(UNLOADED, false);
    }
    for kind in kinds {
        for origin in [Origin::Others, Origin::Own] {
            let is_tls = *kind == Kind::Tls;
            let (server, honest, baseline) = match is_tls {
                true => (&encrypted, &over_tls, &mut unloaded_over_tls),
                false => (&plain, &honest, &mut unloaded),
            };
            let writes = *kind == Kind::Files;
            baseline.add(honest.watch(UNLOADED, true));
            server.forget_peak();
            let mut flood = start(*kind, origin, server);
            std::thread::sleep(BEGINNING);
            let seen = honest.watch(FLOOD - BEGINNING, true);
            let written = writes.then(|| honest.writes());
            let said = end(&mut flood);
            println!("{} {}: {seen}; the flood: {said}", kind.name(), origin.name());
            let mut seen = seen;
            if let Some(written) = written {
                seen.failed += written;
            }
            met.push(Met {
                kind: *kind,
                origin,
                resident_mib: server.peak_mib(),
                seen,
                flood: said,
            });
            std::thread::sleep(AFTERMATH);
        }
    }
    let failed = figures(&unloaded, &unloaded_over_tls, longest_step, &met, began.elapsed());
    drop((honest, over_tls));
    drop((plain, encrypted));
    match failed {
        0 => ExitCode::SUCCESS,
        failed => {
            eprintln!("bench-floods: {failed} goal(s) missed");
            ExitCode::FAILURE
        }
    }
}

/// This program again, as a flood.
fn start(kind: Kind, origin: Origin, server: &Server) -> std::process::Child {
    let program = std::env::current_exe().expect("a running program has a path");
    Command::new(program)
        .args(["flood", kind.name(), origin.name()])
        .args([server.address.to_string(), FLOOD.as_secs().to_string()])
        .envs(server.keys_of_floods())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it started before")
}

/// Waits for a flood's end, which is its own; answers what it says of itself.
fn end(flood: &mut std::process::Child) -> String {
    let until = Instant::now() + FLOOD;
    while flood.try_wait().expect("it is ours").is_none() {
        if Instant::now() > until {
            flood.kill().expect("it is ours");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut said = String::new();
    let stdout = flood.stdout.take().expect("piped");
    let _ = std::io::Read::read_to_string(&mut { stdout }, &mut said);
    said.trim().to_owned()
}

/// Keeps the figures; answers how many goals were missed.
fn figures(
    unloaded: &Seen,
    unloaded_over_tls: &Seen,
    longest_step: Duration,
    met: &[Met],
    took: Duration,
) -> usize {
    let ms = |duration: Duration| duration.as_secs_f64() * 1e3;
    let mut figures = Figures::new(
        "floods",
        "An honest client beside floods of the lowest priority, on the same machine",
    );
    for (what, seen) in [("", unloaded), (" over TLS", unloaded_over_tls)] {
        if seen.searches.is_empty() {
            continue;
        }
        figures.add(
            format!("unloaded{what}: a search by photograph, p50"),
            ms(seen.p50_search()),
            "ms",
        );
        figures.add(
            format!("unloaded{what}: a search by photograph, p99"),
            ms(seen.p99_search()),
            "ms",
        );
        figures.add(
            format!("unloaded{what}: reading a record, p99"),
            ms(seen.p99_read()),
            "ms",
        );
    }
    figures.add(
        "the longest step of a photograph of the picture bombs that cannot be interrupted",
        ms(longest_step),
        "ms",
    );
    for flood in met {
        let name = format!("{}, from {}", flood.kind.title(), flood.origin.title());
        let (seen, baseline) = match flood.kind {
            Kind::Tls => (&flood.seen, unloaded_over_tls),
            _ => (&flood.seen, unloaded),
        };
        let of = seen.searches.len();
        if flood.kind.has_a_right_to_work() {
            let most = ms(baseline.p99_search()) + STEPS_MAX * ms(longest_step);
            let row = figures.add(
                format!("{name}: a search, p99 of {of}"),
                ms(seen.p99_search()),
                "ms",
            );
            row.goal_max = Some(most.ceil());
        } else {
            let ratio = |loaded: Duration, unloaded: Duration| loaded.as_secs_f64() / unloaded.as_secs_f64();
            let search = ratio(seen.p99_search(), baseline.p99_search());
            let row = figures.add(format!("{name}: a search, p99 of {of} / unloaded"), search, "");
            row.goal_max = Some(RATIO_MAX);
            figures.add(
                format!("{name}: reading a record, p99 / unloaded"),
                ratio(seen.p99_read(), baseline.p99_read()),
                "",
            );
        }
        let row = figures.add(
            format!("{name}: calls of the honest client that failed"),
            seen.failed as f64,
            "",
        );
        row.goal_max = Some(0.0);
        let refused = format!(
            "{name}: of {} new connections, so many found no answer",
            seen.newcomers
        );
        let row = figures.add(refused, seen.newcomers_failed as f64, "");
        // An address that floods is slowed down as a whole: who connects anew from it is slowed down too.
        row.goal_max = (flood.origin == Origin::Others).then_some(0.0);
        let row = figures.add(
            format!("{name}: resident memory of the server, at most"),
            flood.resident_mib,
            "MiB",
        );
        row.goal_max = Some(RESIDENT_MIB_MAX);
        println!("{name}: {}", flood.flood);
    }
    figures.add("all of it", took.as_secs_f64(), "s").goal_max = Some(300.0);
    let missed = figures.rows.iter().filter(|row| Figure::misses(row)).count();
    figures.finish();
    missed
}

/// An address of the server.
type Address = SocketAddr;
