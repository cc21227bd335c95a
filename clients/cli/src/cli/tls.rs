//! `likeness tls`: certificates to try it with.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use clap::{Args, Subcommand};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use serde_json::json;

use super::Outcome;
use super::exit::Failure;

/// How long they are good for: to try it, and no longer.
const DAYS: u64 = 90;

const EXAMPLES: &str = "\
Example:
  likeness tls dev-cert ~/likeness/tls
  likeness serve --keys DIR --data DIR --tls-cert ~/likeness/tls/server.pem --tls-key ~/likeness/tls/server.key
  likeness --server https://localhost:50051 --tls-ca ~/likeness/tls/ca.pem collection list

These are for trials. In production use certificates of your own authority.";

/// Make certificates to try TLS with
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct TlsCommand {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make an authority, and certificates of a server and a client, good for 90 days
    #[command(after_help = EXAMPLES)]
    DevCert {
        /// Directory to make them in: ca.pem, server.pem, server.key, client.pem, client.key
        directory: PathBuf,
        /// Name or address of the server, besides localhost, 127.0.0.1 and ::1; may be repeated
        #[arg(long, value_name = "NAME")]
        name: Vec<String>,
    },
}

impl TlsCommand {
    /// Carries the command out.
    pub fn run(self) -> Result<Outcome, Failure> {
        let Command::DevCert { directory, name } = self.command;
        let mut names: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).into();
        names.extend(name);
        make(&directory, names)?;
        let text = format!(
            "made an authority and certificates for a server and a client in {}, good for {DAYS} days; the authority's \
             key is kept nowhere\n",
            directory.display()
        );
        Ok(Outcome::done(
            json!({ "directory": directory, "days": DAYS }),
            text,
        ))
    }
}

fn make(directory: &Path, names: Vec<String>) -> Result<(), Failure> {
    let authority_key = KeyPair::generate().map_err(|error| failed(&error))?;
    let mut authority = parameters(Vec::new(), "Likeness, to try it")?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = authority
        .self_signed(&authority_key)
        .map_err(|error| failed(&error))?;
    let issuer = Issuer::new(authority, authority_key);

    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(|source| file("making", directory, source))?;
    write(&directory.join("ca.pem"), &certificate.pem(), 0o644)?;
    for (role, names, purpose) in [
        ("server", names, ExtendedKeyUsagePurpose::ServerAuth),
        ("client", Vec::new(), ExtendedKeyUsagePurpose::ClientAuth),
    ] {
        let key = KeyPair::generate().map_err(|error| failed(&error))?;
        let mut own = parameters(names, &format!("Likeness {role}, to try it"))?;
        own.extended_key_usages = vec![purpose];
        let signed = own.signed_by(&key, &issuer).map_err(|error| failed(&error))?;
        // ORDER: the key first: a server that reads in between finds an old pair or a new one sooner.
        write(
            &directory.join(format!("{role}.key")),
            &key.serialize_pem(),
            0o600,
        )?;
        write(&directory.join(format!("{role}.pem")), &signed.pem(), 0o644)?;
    }
    Ok(())
}

fn parameters(names: Vec<String>, common_name: &str) -> Result<CertificateParams, Failure> {
    let mut parameters = CertificateParams::new(names).map_err(|error| failed(&error))?;
    parameters
        .distinguished_name
        .push(DnType::CommonName, common_name);
    let now = SystemTime::now();
    let day = Duration::from_secs(24 * 3600);
    // A day ago, for clocks that are late.
    let (from, until) = (
        now.checked_sub(day),
        now.checked_add(day * u32::try_from(DAYS).unwrap_or(1)),
    );
    let [from, until] = [from, until].map(|time| date(time.unwrap_or(now)));
    parameters.not_before = rcgen::date_time_ymd(from.0, from.1, from.2);
    parameters.not_after = rcgen::date_time_ymd(until.0, until.1, until.2);
    Ok(parameters)
}

/// Year, month and day, in UTC.
fn date(time: SystemTime) -> (i32, u8, u8) {
    let text = prost_types::Timestamp::from(time).to_string();
    let mut numbers = text.split(['-', 'T']).map(str::parse);
    let mut next = || numbers.next().and_then(Result::ok).unwrap_or(1);
    let (year, month, day): (u16, u16, u16) = (next(), next(), next());
    (
        i32::from(year),
        u8::try_from(month).unwrap_or(1),
        u8::try_from(day).unwrap_or(1),
    )
}

fn write(path: &Path, text: &str, mode: u32) -> Result<(), Failure> {
    // Never into a file that others may read already.
    let _ = fs::remove_file(path);
    let made = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path);
    made.and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|source| file("writing", path, source))
}

fn file(doing: &'static str, path: &Path, source: std::io::Error) -> Failure {
    Failure::File {
        doing,
        path: path.to_owned(),
        source,
    }
}

fn failed(error: &rcgen::Error) -> Failure {
    Failure::Verification(format!("making a certificate: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_that_of_utc() {
        assert_eq!(date(SystemTime::UNIX_EPOCH), (1970, 1, 1));
        let later = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_824_000);
        assert_eq!(date(later), (2026, 11, 28));
    }
}
