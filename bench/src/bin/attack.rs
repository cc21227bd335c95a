//! What somebody learns of a face by asking how similar others are to it: without limits, and with those of the
//! defaults (`docs/limits.md`).

use std::time::Duration;

use likeness_bench::attack::{Answer, Knowledge, cosine, mean_length, unit};
use likeness_bench::population::Population;
use likeness_engine::bench::{Pace, embedding, protector, similarity};
use likeness_engine::{Bits, Protector, ScoreLimits, Template};

const SEED: u64 = 11;
/// Who is attacked.
const PEOPLE: u64 = 8;
/// Everybody from here on is a face the attacker has.
const FACES_FROM: u64 = 1_000_000;
/// The default threshold, and the floor.
const THRESHOLD: f64 = 0.411;
/// Answers taken in together, and the part of all that they may be: what an attacker would do after each, the machine
/// does after some.
const TOGETHER: usize = 10;
const TOGETHER_PART: usize = 8;

/// The attacked person, by the engine's own projection and score.
struct Oracle {
    protector: Protector,
    template: Template,
    face: Vec<f32>,
    other_photograph: Vec<f32>,
}

impl Oracle {
    fn of(population: &Population, person: u64) -> Self {
        let protector = protector(512);
        let template = protector.protect(population.photograph(person, 0), Bits::B1024);
        Self {
            template,
            protector,
            face: population.unit_values(person, 0),
            other_photograph: population.unit_values(person, 1),
        }
    }

    fn similarity(&self, face: &[f32]) -> f64 {
        let probe = self.protector.probe(embedding(face.to_vec()), Bits::B1024);
        f64::from(similarity(&probe, &self.template))
    }
}

/// What came of an attack on everybody.
#[derive(Default)]
struct Sum {
    cosine: f64,
    accepted: usize,
    above: usize,
    asked: usize,
    refused: usize,
    people: usize,
}

impl Sum {
    fn add(&mut self, known: &Knowledge<'_>, oracle: &Oracle, asked: usize, refused: usize) {
        let guess = known.guess();
        let reached = cosine(&guess, &oracle.face);
        self.cosine += reached;
        self.above += usize::from(reached > 0.3);
        self.accepted += usize::from(cosine(&guess, &oracle.other_photograph) >= THRESHOLD);
        self.asked += asked;
        self.refused += refused;
        self.people += 1;
    }

    fn line(&self, what: &str) {
        let people = self.people.max(1) as f64;
        println!(
            "| {what} | {:.0} | {:.0} | {:.2} | {:.0} % | {:.0} % |",
            self.asked as f64 / people,
            self.refused as f64 / people,
            self.cosine / people,
            100.0 * self.above as f64 / people,
            100.0 * self.accepted as f64 / people,
        );
    }
}

struct Attack {
    population: Population,
    length: f64,
    /// For each person somebody else's face that is taken for the person.
    hits: Vec<Vec<f32>>,
}

impl Attack {
    fn face(&self, number: u64) -> Vec<f32> {
        self.population.unit_values(FACES_FROM + number, 0)
    }

    fn knowledge(&self) -> Knowledge<'_> {
        Knowledge::new(&self.population, self.length)
    }

    /// Every similarity is told, in steps of so much.
    fn told(&self, what: &str, count: u64, step: f64) {
        let mut sum = Sum::default();
        for person in 0..PEOPLE {
            let (oracle, mut known) = (Oracle::of(&self.population, person), self.knowledge());
            for number in 0..count {
                let face = self.face(person * count + number);
                let mut told = oracle.similarity(&face);
                if step > 0.0 {
                    told = (told / step).round() * step;
                }
                known.learn(face, Answer::Told(told));
            }
            known.conclude();
            sum.add(&known, &oracle, count as usize, 0);
        }
        sum.line(what);
    }

    /// Real faces, and what is below the threshold is not told.
    fn floored(&self, what: &str, count: u64) {
        let mut sum = Sum::default();
        for person in 0..PEOPLE {
            let (oracle, mut known) = (Oracle::of(&self.population, person), self.knowledge());
            let mut refused = 0;
            for number in 0..count {
                let face = self.face(person * count + number);
                let similarity = oracle.similarity(&face);
                refused += usize::from(similarity < THRESHOLD);
                let answer = match similarity >= THRESHOLD {
                    true => Answer::Told(similarity),
                    false => Answer::Reached(false, THRESHOLD),
                };
                known.learn(face, answer);
            }
            known.conclude();
            sum.add(&known, &oracle, count as usize, refused);
        }
        sum.line(what);
    }

    /// Crafted faces after the first hit, each aimed `doubts` standard deviations above the threshold.
    fn crafted(&self, what: &str, doubts: f64, asking: &Asking) {
        let mut sum = Sum::default();
        for person in 0..PEOPLE {
            let (oracle, mut known) = (Oracle::of(&self.population, person), self.knowledge());
            let hit = self.hits[person as usize].clone();
            known.learn(hit, Answer::Reached(true, THRESHOLD));
            known.conclude();
            let mut server = Server::new(asking);
            let (mut asked, mut refused, mut number) = (0, 0, 0);
            let (mut threshold, mut above) = (THRESHOLD, doubts * 0.1);
            'asking: loop {
                let mut learnt = false;
                for _ in 0..TOGETHER.max(asked / TOGETHER_PART) {
                    let other = self.face(50_000_000 + person * 1_000_000 + number);
                    number += 1;
                    // Who knows too little to aim so high asks about the guess itself.
                    let face = known
                        .craft(&other, threshold + above)
                        .or_else(|| known.craft(&other, THRESHOLD))
                        .unwrap_or_else(|| unit(known.guess()));
                    let similarity = oracle.similarity(&face);
                    let Some(decided) = server.ask(asked, similarity) else {
                        break 'asking;
                    };
                    threshold = decided;
                    asked += 1;
                    let yes = similarity >= threshold;
                    refused += usize::from(!yes);
                    if !yes && threshold > THRESHOLD + 0.01 && known.reach() < threshold {
                        // As was to be expected: nothing is learnt by it.
                        server.pause();
                        continue;
                    }
                    learnt = true;
                    let answer = match yes && server.is_told() {
                        true => Answer::Told((similarity / 0.02).round() * 0.02),
                        false => Answer::Reached(yes, threshold),
                    };
                    known.learn(face, answer);
                }
                if !learnt {
                    continue;
                }
                known.conclude();
                if doubts != 0.0 {
                    let probe = known.craft(&self.face(number), THRESHOLD);
                    above = doubts * probe.map_or(0.1, |probe| known.doubt(&probe));
                }
            }
            known.conclude();
            sum.add(&known, &oracle, asked, refused);
        }
        sum.line(what);
    }
}

/// How the attacker asks.
struct Asking {
    by: By,
    limits: ScoreLimits,
}

#[derive(Clone, Copy)]
enum By {
    /// So many yes or no, with nothing in the way and no similarity told.
    Asked(usize),
    /// By PersonID, as often as all callers together are answered in so many days.
    Verifying(u64),
    /// So many searches among all, in which only being found counts.
    Searching(usize),
}

/// The time that the attacker has, and the meter's word on it.
struct Server<'a> {
    asking: &'a Asking,
    pace: Pace,
    now: Duration,
    /// When the person calls next.
    own: Duration,
    told: (u64, u32),
}

const DAY: u64 = 24 * 3600;
/// The API key that the attacked person is verified by, and the attacker's.
const OWNER: u64 = 1;
const ATTACKER: u64 = 2;
/// How long an attacker waits who sees the threshold out of reach, where time matters.
const PATIENCE: Duration = Duration::from_secs(3600);

impl<'a> Server<'a> {
    fn new(asking: &'a Asking) -> Self {
        Self {
            asking,
            pace: Pace::new(asking.limits.clone()),
            now: Duration::ZERO,
            own: Duration::ZERO,
            told: (0, 0),
        }
    }

    /// The threshold that the answer is decided by; none when the attacker's time is over.
    fn ask(&mut self, asked: usize, similarity: f64) -> Option<f64> {
        let (similarity, threshold) = (similarity as f32, THRESHOLD as f32);
        match self.asking.by {
            By::Asked(most) => (asked < most).then_some(THRESHOLD),
            By::Searching(most) => {
                // Whoever is not found is not counted; the attacker is taken to know the threshold.
                self.now += Duration::from_secs(1);
                let strict = self.pace.clone().named(ATTACKER, self.now, threshold, threshold);
                if similarity >= threshold {
                    self.pace.named(ATTACKER, self.now, similarity, threshold);
                }
                (asked < most).then_some(f64::from(strict))
            }
            By::Verifying(days) => {
                let end = Duration::from_secs(days * DAY);
                // Beside the person's own calls, four a day and none in doubt: they give the attacker most.
                while self.own < self.now {
                    let _ = self.pace.compared(OWNER, self.own, 0.8, threshold);
                    self.own += Duration::from_secs(DAY / 4);
                }
                while self.now < end {
                    match self.pace.compared(ATTACKER, self.now, similarity, threshold) {
                        Ok(threshold) => {
                            self.now += Duration::from_secs(1);
                            return Some(f64::from(threshold));
                        }
                        // To the next moment, or to the next day's fresh counters if that is sooner.
                        Err(wait) => self.now += wait.min(until_tomorrow(self.now)),
                    }
                }
                None
            }
        }
    }

    fn pause(&mut self) {
        if matches!(self.asking.by, By::Verifying(_)) {
            self.now += PATIENCE;
        }
    }

    fn is_told(&mut self) -> bool {
        if matches!(self.asking.by, By::Asked(_)) {
            return false;
        }
        let today = self.now.as_secs() / DAY;
        if self.told.0 != today {
            self.told = (today, 0);
        }
        self.told.1 += 1;
        self.told.1 <= self.asking.limits.told_a_day
    }
}

fn until_tomorrow(now: Duration) -> Duration {
    Duration::from_secs(DAY) - Duration::from_secs(now.as_secs() % DAY)
}

/// Somebody else's face that is taken for the person. Of real faces it is one in ten thousand; this one is drawn as
/// those are: a normal vector that is known to have such a part along another is any of its kind, moved along the
/// covariance times the other.
fn hit(population: &Population, person: u64) -> Vec<f32> {
    let oracle = Oracle::of(population, person);
    let any = population.unit_values(FACES_FROM / 2 + person, 0);
    let towards = unit(population.covariance_times(&oracle.face));
    let moved = |by: f32| unit(any.iter().zip(&towards).map(|(a, t)| a + by * t).collect());
    (1..1000)
        .map(|step| moved(step as f32 * 0.01))
        .find(|face| oracle.similarity(face) >= THRESHOLD)
        .expect("far enough it is the person's own direction")
}

/// What the person pays whom the limits protect: among people who come so many times a day for 90 days, each time with
/// another photograph.
fn genuine(population: &Population) {
    const OWNERS: u64 = 200;
    const DAYS: u64 = 90;
    const DAILY: [u64; 3] = [1, 5, 20];
    let (limits, threshold) = (ScoreLimits::default(), THRESHOLD as f32);
    let of = |person| {
        let oracle = Oracle::of(population, person);
        let photographs = 1..=DAYS * DAILY[DAILY.len() - 1];
        let similarities = photographs.map(|n| oracle.similarity(&population.unit_values(person, n)) as f32);
        similarities.collect::<Vec<_>>()
    };
    let owners: Vec<_> = (0..OWNERS).map(of).collect();
    let all: Vec<_> = owners.iter().flatten().copied().collect();
    let part = |counted: usize, of: usize| 100.0 * counted as f64 / of as f64;
    println!();
    for margin in [0.0, 0.05, 0.1, 0.15, 0.2] {
        let below = all.iter().filter(|s| **s < threshold + margin).count();
        println!(
            "similarity below the threshold + {margin}: {:.1} %",
            part(below, all.len())
        );
    }
    println!("\n| calls a day | slowed down | refused in doubt | people refused so above 5 % |");
    println!("|---|---|---|---|");
    for daily in DAILY {
        let (mut slowed, mut doubted, mut total, mut often) = (0, 0, 0, 0);
        for owner in &owners {
            let (mut pace, calls) = (Pace::new(limits.clone()), (DAYS * daily) as usize);
            let mut own = 0;
            for (at, similarity) in owner.iter().take(calls).enumerate() {
                let now = Duration::from_secs(at as u64 * DAY / daily);
                match pace.compared(OWNER, now, *similarity, threshold) {
                    Err(_) => slowed += 1,
                    Ok(from) => own += usize::from((threshold..from).contains(similarity)),
                }
            }
            total += calls;
            doubted += own;
            often += usize::from(own * 20 > calls);
        }
        println!(
            "| {daily} | {:.1} % | {:.1} % | {:.0} % |",
            part(slowed, total),
            part(doubted, total),
            part(often, owners.len())
        );
    }
}

fn main() {
    let population = Population::new(SEED);
    let attack = Attack {
        length: mean_length(&population),
        hits: (0..PEOPLE).map(|person| hit(&population, person)).collect(),
        population,
    };
    println!("| the attacker is answered | asked | refused | cosine | above .3 | accepted |");
    println!("|---|---|---|---|---|---|");
    attack.told("nothing", 0, 0.0);
    for count in [10, 100, 300] {
        attack.told("every similarity", count, 0.0);
    }
    attack.told("every similarity, in steps of .02", 100, 0.02);
    attack.told("every similarity, in steps of .1", 100, 0.1);
    attack.floored("above the floor only; real faces", 100);
    let no_doubts = ScoreLimits {
        doubts: u32::MAX,
        doubt_margin: 0.0,
        ..ScoreLimits::default()
    };
    let asked = [10, 100, 500].map(|count| ("yes or no after a hit", By::Asked(count), no_doubts.clone()));
    let limited = [
        (
            "verifying for a day, no doubts",
            By::Verifying(1),
            no_doubts.clone(),
        ),
        ("verifying for a day", By::Verifying(1), ScoreLimits::default()),
        ("verifying for a week", By::Verifying(7), ScoreLimits::default()),
        ("searching, no doubts", By::Searching(300), no_doubts),
        ("searching", By::Searching(300), ScoreLimits::default()),
        ("searching", By::Searching(1000), ScoreLimits::default()),
    ];
    for (what, by, limits) in asked.into_iter().chain(limited) {
        // Aimed below, an answer is rarely a yes, and says the more.
        for (doubts, aim) in [(0.0, "at the threshold"), (-1.0, "below it")] {
            if doubts == 0.0 || !matches!(by, By::Asked(_)) {
                let limits = limits.clone();
                attack.crafted(&format!("{what}; crafted {aim}"), doubts, &Asking { by, limits });
            }
        }
    }
    genuine(&attack.population);
}
