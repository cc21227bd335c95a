//! What a caller learns of a face by asking how similar others are to it: without limits and with those of the defaults,
//! on every way that depends on a stored template; and what the limits cost the person (`docs/limits.md`).
//!
//! "Without" are the same limits with one pause for all keys, counters for each copy of a person, similarities told to
//! each key, faces of one call that regain doubts, and pairs that are not counted, at any threshold.

use std::time::{Duration, Instant};

use likeness_bench::attack::baselines::{self, Real};
use likeness_bench::attack::each;
use likeness_bench::attack::honest::{self, Against, Served, photographs};
use likeness_bench::attack::knowledge::{mix, unit};
use likeness_bench::attack::pairing::{Asks, Pairing};
use likeness_bench::attack::rules::{Rules, Shared};
use likeness_bench::attack::searching::Searching;
use likeness_bench::attack::verifying::{Outcome, Verifying};
use likeness_bench::attack::victim::{Craft, Sends, THRESHOLD, Victim, World};
use likeness_engine::ScoreLimits;
use likeness_engine::bench::Pace;

const SEED: u64 = 11;
/// People who are attacked.
const PEOPLE: u64 = 40;
/// A search for duplicates' floor: similarity of two stored templates of 1,024 bits at a rate of 1e-4.
const STORED_FLOOR: f64 = 0.428;
/// What a rate ten times as strict adds to it: the tail of the calibration.
const STORED_DECADE: f64 = std::f64::consts::LN_10 / 12.01;
/// Faces that are enrolled in a day, and calls for duplicates.
const FACES: usize = 2_244;
const CALLS: usize = 66;
const CALLS_OF_A_BATCH: usize = 3;
/// Steps of the rate of a search for duplicates, ten times as strict each, and how often the attacker asks in a day.
const STEPS: u32 = 3;
const BATCHES_A_DAY: usize = 4;
/// Copies of the person, and photographs of a call of AddFaces that follow a crafted one.
const COPIES: usize = 10;
const REPEATS: u32 = 19;
/// The default of `--searches-per-day`.
const SEARCHES_A_DAY: u32 = 100_000;

struct Attacks {
    world: World,
    victims: Vec<Victim>,
    features: Craft,
    photographs: Craft,
    began: Instant,
}

impl Attacks {
    fn new() -> Self {
        let began = Instant::now();
        let world = World::new(SEED);
        Self {
            victims: each(PEOPLE, |person| Victim::of(&world.population, person, 0)),
            features: Craft::new(&world.population, Sends::Features),
            photographs: Craft::new(&world.population, Sends::Photographs),
            world,
            began,
        }
    }

    /// A line of the table: the best of several ways to attack.
    fn line(&self, what: &str, ways: usize, attack: impl Fn(usize, u64, &Victim) -> Outcome + Sync) {
        let of_way = |way| {
            mean(&each(PEOPLE, |person| {
                attack(way, person, &self.victims[person as usize])
            }))
        };
        let best = (0..ways).map(of_way).max_by(|a, b| a.cosine.total_cmp(&b.cosine));
        let outcome = best.expect("one way at least");
        println!(
            "| {what} | {} | {} | {:.2} | {:.0} % |",
            outcome.asked,
            outcome.yes,
            outcome.cosine,
            100.0 * outcome.accepted,
        );
        eprintln!("{:.0} s", self.began.elapsed().as_secs_f64());
    }

    fn craft(&self, sends: Sends) -> &Craft {
        match sends {
            Sends::Features => &self.features,
            Sends::Photographs => &self.photographs,
        }
    }

    fn baselines(&self) {
        let real = |what: &str, count: u64, real| {
            self.line(what, 1, |_, person, victim| {
                baselines::real(&self.world, victim, person, count, real)
            });
        };
        real("nothing", 0, Real::Told(0.0));
        for count in [10, 100, 300] {
            real("every similarity, of real faces", count, Real::Told(0.0));
        }
        real("the same in steps of .02", 100, Real::Told(0.02));
        real("the same in steps of .1", 100, Real::Told(0.1));
        real("what is above the floor, of real faces", 100, Real::Floored);
        for count in [10, 100, 500] {
            const RARITIES: [f64; 2] = [0.0, 0.7];
            let what = "yes or no after a first hit, of crafted faces";
            self.line(what, RARITIES.len(), |way, person, victim| {
                baselines::yes_or_no(&self.world, victim, person, count, RARITIES[way])
            });
        }
    }

    fn verifying<R: Rules>(
        &self,
        what: &str,
        sends: Sends,
        asking: &Verifying,
        rules: impl Fn(ScoreLimits) -> R + Sync,
    ) {
        const RARITIES: [f64; 2] = [0.0, 0.7];
        self.line(what, RARITIES.len(), |way, person, victim| {
            let rarity = RARITIES[way];
            let asking = Verifying {
                rarity,
                ..asking.clone()
            };
            asking
                .attack(&self.world, victim, person, self.craft(sends), &rules)
                .0
        });
    }

    fn verifications(&self) {
        let (with, without) = (Pace::new, Shared::new);
        let day = Verifying {
            limits: ScoreLimits::default(),
            keys: 1,
            records: 1,
            told_to: 1,
            repeats: 0,
            days: 1,
            rarity: 0.0,
        };
        let keys = |keys, told_to| Verifying {
            keys,
            told_to,
            ..day.clone()
        };
        let week = |day: &Verifying| Verifying {
            days: 7,
            ..day.clone()
        };
        let (photographs, features) = (Sends::Photographs, Sends::Features);
        let no_doubts = Verifying {
            limits: ScoreLimits {
                doubts: u32::MAX,
                doubt_margin: 0.0,
                ..ScoreLimits::default()
            },
            ..day.clone()
        };
        self.verifying(
            "VerifyPerson, features | without, and without doubts | a day",
            features,
            &no_doubts,
            without,
        );
        self.verifying(
            "VerifyPerson, features | without | a day",
            features,
            &day,
            without,
        );
        self.verifying(" | with | a day", features, &day, with);
        self.verifying("VerifyPerson | without | a day", photographs, &day, without);
        self.verifying(" | with | a day", photographs, &day, with);
        self.verifying(" | without | a week", photographs, &week(&day), without);
        self.verifying(" | with | a week", photographs, &week(&day), with);
        self.verifying(
            "two keys of an account | without | a day",
            photographs,
            &keys(2, 2),
            without,
        );
        self.verifying(" | with | a day", photographs, &keys(2, 1), with);
        self.verifying(
            "ten keys of an account | without | a day",
            photographs,
            &keys(10, 10),
            without,
        );
        self.verifying(" | with | a day", photographs, &keys(10, 1), with);
        self.verifying(" | with | a week", photographs, &week(&keys(10, 1)), with);
        self.two_accounts("a key in each of two accounts | with | a day", &day);
        self.two_accounts(" | with | a week", &week(&day));
        let copies = Verifying {
            records: COPIES + 1,
            ..day.clone()
        };
        self.verifying(
            "ten copies by CopyPerson | without | a day",
            photographs,
            &copies,
            without,
        );
        self.verifying(" | with | a day", photographs, &day, with);
        let repeats = Verifying {
            repeats: REPEATS,
            ..day.clone()
        };
        self.verifying("AddFaces | without | a day", photographs, &repeats, without);
        self.verifying(" | with | a day", photographs, &day, with);
        let strict = Verifying {
            limits: strict(),
            ..day.clone()
        };
        self.verifying(
            "VerifyPerson, strict limits | with | a day",
            photographs,
            &strict,
            with,
        );
        self.verifying(" | with | a week", photographs, &week(&strict), with);
    }

    /// Two accounts have enrolled the person with a photograph each, and what their keys learn is put together.
    fn two_accounts(&self, what: &str, one: &Verifying) {
        /// How much the guess of the other photograph's features counts.
        const WEIGHTS: [f64; 2] = [0.3, 1.0];
        let rules = Pace::new;
        self.line(what, WEIGHTS.len(), |way, person, victim| {
            let other = Victim::of(&self.world.population, person, 1);
            let attack = |victim: &Victim| one.attack(&self.world, victim, person, &self.photographs, rules);
            let [(a, known_a), (b, known_b)] = [attack(victim), attack(&other)];
            let together = mix(1.0, &unit(known_a.guess()), WEIGHTS[way], &unit(known_b.guess()));
            Outcome::judged(victim, &together, a.asked + b.asked, a.yes + b.yes)
        });
    }

    fn searching<R: Rules>(&self, what: &str, asking: &Searching, rules: impl Fn(ScoreLimits) -> R + Sync) {
        const RARITIES: [f64; 1] = [1.5];
        self.line(what, RARITIES.len(), |way, person, victim| {
            let rarity = RARITIES[way];
            let asking = Searching {
                rarity,
                ..asking.clone()
            };
            asking.attack(&self.world, victim, person, &self.photographs, &rules)
        });
    }

    fn searches(&self) {
        let searches = |searches_a_day, days, limits| Searching {
            limits,
            searches_a_day,
            days,
            rarity: 0.0,
        };
        let default = ScoreLimits::default;
        for few in [300, 1_000] {
            let what = format!("{few} searches among all");
            self.searching(
                &format!("{what} | without | a day"),
                &searches(few, 1, default()),
                Shared::new,
            );
            self.searching(
                &format!("{what} | with | a day"),
                &searches(few, 1, default()),
                Pace::new,
            );
        }
        let many = SEARCHES_A_DAY;
        self.searching(
            "as many searches as an account has | with | a day",
            &searches(many, 1, default()),
            Pace::new,
        );
        self.searching(" | with | a week", &searches(many, 7, default()), Pace::new);
        self.searching(
            "1,000 searches a day, strict limits | with | a day",
            &searches(1_000, 1, strict()),
            Pace::new,
        );
        self.searching(" | with | a week", &searches(1_000, 7, strict()), Pace::new);
    }

    fn pairs(&self) {
        let day = Pairing {
            limits: ScoreLimits::default(),
            faces_a_day: FACES,
            batches_a_day: CALLS / CALLS_OF_A_BATCH,
            days: 1,
            asks: Asks::Anywhere {
                floor: STORED_FLOOR,
                calls: CALLS_OF_A_BATCH,
            },
        };
        for (sends, what) in [
            (Sends::Features, "FindDuplicates, features | without | a day"),
            (
                Sends::Photographs,
                "FindDuplicates, photographs | without | a day",
            ),
        ] {
            self.line(what, 1, |_, person, victim| {
                day.attack(&self.world, victim, person, self.craft(sends), Shared::new)
            });
        }
        const RARITIES: [f64; 2] = [2.0, 2.8];
        for (days, what) in [(1, " | with | a day"), (7, " | with | a week")] {
            self.line(what, RARITIES.len(), |way, person, victim| {
                let asks = Asks::Steps {
                    steps: (0..STEPS)
                        .map(|step| STORED_FLOOR + f64::from(step) * STORED_DECADE)
                        .collect(),
                    rarity: RARITIES[way],
                };
                let now = Pairing {
                    days,
                    batches_a_day: BATCHES_A_DAY,
                    asks,
                    ..day.clone()
                };
                now.attack(&self.world, victim, person, &self.photographs, Pace::new)
            });
        }
    }
}

/// Limits of a deployment for which the defaults give away too much.
fn strict() -> ScoreLimits {
    ScoreLimits {
        told_a_day: 0,
        doubts: 1,
        refused_a_day: 5,
        pause: Duration::from_secs(600),
        pause_max: Duration::from_secs(12 * 3600),
        own_turns_a_day: 1,
        own_turns_of_account_a_day: 5,
        ..ScoreLimits::default()
    }
}

fn mean(outcomes: &[Outcome]) -> Outcome {
    let count = outcomes.len() as f64;
    let mean = |of: fn(&Outcome) -> f64| outcomes.iter().map(of).sum::<f64>() / count;
    Outcome {
        asked: mean(|o| o.asked as f64).round() as usize,
        yes: mean(|o| o.yes as f64).round() as usize,
        cosine: mean(|o| o.cosine),
        accepted: mean(|o| o.accepted),
    }
}

fn percent(part: usize, of: usize) -> f64 {
    100.0 * part as f64 / of.max(1) as f64
}

/// Keys that ask about strangers' faces again and again, against a person who is recognised beyond doubt each time.
fn lockout() {
    const DAILY: [u64; 3] = [4, 20, 118];
    const DAYS: u64 = 7;
    println!(
        "\n| keys that poll | person's calls a day | refused, without | refused, with | the keys' comparisons answered a day, with |"
    );
    println!("|---|---|---|---|---|");
    for keys in [1, 10, 100] {
        for daily in DAILY {
            let similarities = vec![0.8; (daily * DAYS) as usize];
            let against = Against::Polling(keys);
            let without = honest::served(Shared::new(ScoreLimits::default()), &similarities, daily, against);
            let with = honest::served(Pace::new(ScoreLimits::default()), &similarities, daily, against);
            println!(
                "| {keys} | {daily} | {:.0} % | {:.0} % | {} |",
                percent(without.slowed, without.calls),
                percent(with.slowed, with.calls),
                with.spent as u64 / DAYS,
            );
        }
    }
}

/// What the limits cost the person whom they protect: people who come so many times a day, each time with another
/// photograph.
fn genuine(world: &World) {
    const OWNERS: u64 = 200;
    const DAYS: u64 = 90;
    const DAILY: [u64; 5] = [1, 2, 5, 10, 20];
    /// Fewer beside an attacker, whose calls are simulated one by one.
    const DAYS_ATTACKED: u64 = 14;
    let most = (DAYS * DAILY[DAILY.len() - 1]) as usize;
    let owners = each(OWNERS, |person| photographs(world, person, most));
    let all: Vec<f64> = owners.iter().flatten().copied().collect();
    println!();
    for margin in [0.0, 0.05, 0.1, 0.15, 0.2] {
        let below = all.iter().filter(|s| **s < THRESHOLD + margin).count();
        println!(
            "similarity below the threshold + {margin}: {:.1} %",
            percent(below, all.len())
        );
    }
    println!("\n| beside | calls a day | slowed down | refused in doubt | people refused so above 5 % |");
    println!("|---|---|---|---|---|");
    for (what, against, days) in [
        ("", Against::Nothing, DAYS),
        ("a key that polls", Against::Polling(1), DAYS_ATTACKED),
        ("ten keys that poll", Against::Polling(10), DAYS_ATTACKED),
        ("a key that uses up the doubts", Against::Doubting, DAYS_ATTACKED),
    ] {
        for daily in DAILY {
            let of = |person: u64| {
                let similarities = &owners[person as usize][..(days * daily) as usize];
                honest::served(Pace::new(ScoreLimits::default()), similarities, daily, against)
            };
            let served = each(OWNERS, of);
            let often = served.iter().filter(|one| one.doubted * 20 > one.calls).count();
            let mut sum = Served::default();
            served.iter().for_each(|one| sum.add(*one));
            println!(
                "| {what} | {daily} | {:.1} % | {:.1} % | {:.0} % |",
                percent(sum.slowed, sum.calls),
                percent(sum.doubted, sum.calls),
                percent(often, served.len()),
            );
        }
    }
}

/// The name of a part, the head of its table, and what prints its rows.
type Table = (&'static str, &'static str, fn(&Attacks));

fn main() {
    // All of it, or the parts that are named.
    let parts: Vec<String> = std::env::args().skip(1).collect();
    let is_asked = |part: &str| parts.is_empty() || parts.iter().any(|asked| asked == part);
    let attacks = Attacks::new();
    const UNLIMITED: &str = "the attacker is answered, without limits";
    const LIMITED: &str = "the attacker has | rules | time";
    let tables: [Table; 4] = [
        ("unlimited", UNLIMITED, Attacks::baselines),
        ("verify", LIMITED, Attacks::verifications),
        ("search", LIMITED, Attacks::searches),
        ("pairs", LIMITED, Attacks::pairs),
    ];
    let mut last = "";
    for (_, head, rows) in tables.iter().filter(|(part, ..)| is_asked(part)) {
        if *head != last {
            println!("\n| {head} | asked | yes | cosine | accepted |");
            println!("{}|", "|---".repeat(head.split(" | ").count() + 4));
            last = head;
        }
        rows(&attacks);
    }
    if is_asked("lockout") {
        lockout();
    }
    if is_asked("honest") {
        genuine(&attacks.world);
    }
    eprintln!("{:.0} s", attacks.began.elapsed().as_secs_f64());
}
