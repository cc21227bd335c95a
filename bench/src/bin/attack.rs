//! What somebody learns of a face by asking how similar others are to it: without limits, and with those of the
//! defaults (`docs/limits.md`).

use std::time::Duration;

use likeness_bench::attack::{Answer, Knowledge, cosine, mean_length};
use likeness_bench::population::Population;
use likeness_engine::bench::{Pace, embedding, protector, similarity};
use likeness_engine::{Bits, Protector, ScoreLimits, Template};

const SEED: u64 = 11;
/// Who is attacked.
const PEOPLE: u64 = 12;
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

    /// Crafted faces after the first hit, each aimed `doubts` standard deviations above the threshold, so many or as
    /// many as the meter answers in a time.
    fn crafted(&self, what: &str, doubts: f64, until: Until) {
        let mut sum = Sum::default();
        for person in 0..PEOPLE {
            let (oracle, mut known) = (Oracle::of(&self.population, person), self.knowledge());
            let hit = self.hits[person as usize].clone();
            known.learn(hit, Answer::Reached(true, THRESHOLD));
            known.conclude();
            let mut clock = Clock::new(until);
            let (mut asked, mut refused, mut number) = (0, 0, 0);
            let mut aim = THRESHOLD + doubts * 0.1;
            'asking: loop {
                for _ in 0..TOGETHER.max(asked / TOGETHER_PART) {
                    let other = self.face(50_000_000 + person * 100_000 + number);
                    number += 1;
                    // Who knows too little to aim so high asks about the guess itself.
                    let face = known
                        .craft(&other, aim)
                        .or_else(|| known.craft(&other, THRESHOLD))
                        .unwrap_or_else(|| likeness_bench::attack::unit(known.guess()));
                    let similarity = oracle.similarity(&face);
                    let yes = similarity >= THRESHOLD;
                    if !clock.may_ask(asked, yes) {
                        break 'asking;
                    }
                    asked += 1;
                    refused += usize::from(!yes);
                    let answer = match yes && clock.is_told() {
                        true => Answer::Told((similarity / 0.02).round() * 0.02),
                        false => Answer::Reached(yes, THRESHOLD),
                    };
                    known.learn(face, answer);
                }
                known.conclude();
                if doubts > 0.0 {
                    let probe = known.craft(&self.face(number), THRESHOLD);
                    let doubt = probe.map_or(0.1, |probe| known.doubt(&probe));
                    aim = THRESHOLD + doubts * doubt;
                }
            }
            known.conclude();
            sum.add(&known, &oracle, asked, refused);
        }
        sum.line(what);
    }
}

#[derive(Clone, Copy)]
enum Until {
    /// So many yes or no, with nothing in the way and no similarity told.
    Asked(usize),
    /// As many as one caller is answered in so many days under the default limits.
    Days(u64),
}

/// The time that the attacker has, and the meter's word on it.
struct Clock {
    until: Until,
    pace: Pace,
    now: Duration,
    told: (u64, u32),
}

const DAY: u64 = 24 * 3600;

impl Clock {
    fn new(until: Until) -> Self {
        Self {
            until,
            pace: Pace::new(ScoreLimits::default()),
            now: Duration::ZERO,
            told: (0, 0),
        }
    }

    fn may_ask(&mut self, asked: usize, yes: bool) -> bool {
        match self.until {
            Until::Asked(most) => asked < most,
            Until::Days(days) => {
                let end = Duration::from_secs(days * DAY);
                while self.now < end {
                    match self.pace.compared(self.now, yes) {
                        Ok(()) => {
                            self.now += Duration::from_secs(1);
                            return true;
                        }
                        // To the next moment, or to the next day's fresh counters if that is sooner.
                        Err(wait) => self.now += wait.min(until_tomorrow(self.now)),
                    }
                }
                false
            }
        }
    }

    fn is_told(&mut self) -> bool {
        if matches!(self.until, Until::Asked(_)) {
            return false;
        }
        let today = self.now.as_secs() / DAY;
        if self.told.0 != today {
            self.told = (today, 0);
        }
        self.told.1 += 1;
        self.told.1 <= ScoreLimits::default().told_a_day
    }
}

fn until_tomorrow(now: Duration) -> Duration {
    Duration::from_secs(DAY) - Duration::from_secs(now.as_secs() % DAY)
}

/// Somebody else's face that is taken for the person: one of some ten thousand.
fn hit(population: &Population, person: u64) -> Vec<f32> {
    let oracle = Oracle::of(population, person);
    (100_000_000 + person * 1_000_000..)
        .map(|number| population.unit_values(number, 0))
        // The exact cosine first: it costs less than the score.
        .filter(|face| cosine(face, &oracle.face) > THRESHOLD - 0.1)
        .find(|face| oracle.similarity(face) >= THRESHOLD)
        .expect("there is no end of faces")
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
    for count in [10, 100, 500] {
        attack.crafted("yes or no after a hit; crafted faces", 0.0, Until::Asked(count));
    }
    for days in [1, 7] {
        for (doubts, aim) in [(0.0, "at the threshold"), (1.3, "above it")] {
            let what = format!("as by default after a hit, {days} days; crafted {aim}");
            attack.crafted(&what, doubts, Until::Days(days));
        }
    }
}
