//! The table of data classes: what is kept, for how long, why, where, and how it is destroyed.
//!
//! It has a row for each class that the program handles, and for each that a later version will. The texts of the policy
//! are beside the server; here are the facts.

const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;
const MB: u64 = 1_000_000;

/// How long an idempotency token is known.
pub const TOKENS_KEPT_MS: u64 = DAY * 1000;

/// Periods that the operator may shorten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Periods {
    /// Bytes of the error log on disk, at most [`Periods::ERROR_LOG_MB_MAX`].
    pub error_log_bytes: u64,
    /// Days of the operation log, at most [`Periods::DAYS_MAX`].
    pub operation_log_days: u32,
    /// Days of monitoring data, at most [`Periods::DAYS_MAX`].
    pub monitoring_days: u32,
}

impl Periods {
    /// Two gigabytes.
    pub const ERROR_LOG_MB_MAX: u64 = 2000;
    /// Two years.
    pub const DAYS_MAX: u32 = 730;
}

impl Default for Periods {
    fn default() -> Self {
        Self {
            error_log_bytes: Self::ERROR_LOG_MB_MAX * MB,
            operation_log_days: Self::DAYS_MAX,
            monitoring_days: Self::DAYS_MAX,
        }
    }
}

/// How long a class is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Period {
    /// As long as the call that brought it; never stored.
    Call,
    /// Until the person is erased.
    Person,
    /// Until the collection is deleted.
    Collection,
    /// Until the deployment is closed.
    Deployment,
    /// So many seconds.
    Seconds(u64),
    /// So many bytes; the oldest go first.
    Bytes(u64),
    /// Until the purge after an erasure, some seconds.
    Purge,
    /// The program writes it to standard error and keeps nothing.
    StandardError,
}

/// The role that may change a period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangedBy {
    /// No role.
    Fixed,
    /// The client: by an erasure, an expiry, or a withdrawal of the consent.
    ClientErases,
    /// The client: by deleting the collection.
    ClientDeletesCollection,
    /// The operator: to less, by this option of `likeness serve`.
    OperatorShortens(&'static str),
    /// The operator: to less, or to ten days for images and videos. There is no option for it yet.
    OperatorToTenDays,
    /// The operator: to less. There is no option for it yet.
    OperatorShortensLater,
    /// The operator, by what collects standard error.
    OperatorsSystem,
}

/// What a class is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To compare faces.
    Comparison,
    /// To tell the client which person was found.
    Identification,
    /// To show that the person agreed, and to what.
    ProofOfConsent,
    /// To keep data unreadable without their key, and to erase them.
    Confidentiality,
    /// To tell persons and auditors which calls concerned a person.
    Transparency,
    /// To keep attackers from learning a face by many comparisons.
    AbuseProtection,
    /// To admit callers and to limit what they may do.
    AccessControl,
    /// To find faults.
    FaultAnalysis,
    /// To operate the service and to measure it.
    Operation,
    /// To bill.
    Billing,
    /// To prove erasures.
    ProofOfErasure,
    /// To prove what administrators did.
    ProofOfAdministration,
    /// To carry a repeated call out once.
    Reliability,
    /// To carry an erasure out completely.
    Erasure,
    /// To tell a living person from a picture of one.
    LivenessCheck,
    /// To check an identity document.
    DocumentCheck,
    /// What the person agreed to explicitly.
    AgreedPurpose,
}

/// The legal basis that the class is designed for. The controller of a deployment has to confirm it: which one holds
/// depends on the controller's law and use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LegalBasis {
    /// Consent of the person to the processing of biometric data.
    BiometricConsent,
    /// Consent of the person.
    Consent,
    /// Legal obligation: accountability of the controller.
    Accountability,
    /// Legitimate interest: security of the service.
    Security,
    /// Legitimate interest: operation and billing of the service.
    Operation,
    /// None is needed as far as the class holds no personal data.
    NoPersonalData,
}

/// Where a class lies. All of it is in the region of the deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In memory alone.
    Memory,
    /// In sealed records and rows in the data directory.
    Records,
    /// In files of their own in the data directory.
    Files,
    /// In the slots in the data directory, wrapped under a key in the key store.
    Slots,
    /// On standard error.
    StandardError,
}

/// How a class is destroyed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destruction {
    /// Its memory is overwritten.
    MemoryOverwritten,
    /// Its key is overwritten, then the data files are rewritten without it.
    KeyDestroyed,
    /// Its place in the file is overwritten.
    Overwritten,
    /// Its rows are deleted with the person's record, then the data files are rewritten without them.
    RowsDeleted,
    /// Its rows are deleted; they hold nothing of a person.
    RowsExpire,
    /// Its files are removed.
    FilesRemoved,
    /// The data files are rewritten without it.
    FilesRewritten,
    /// The keys of the whole deployment are destroyed.
    DeploymentClosed,
    /// By what collects standard error.
    OperatorsSystem,
}

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataClass {
    /// As in `operation_log`.
    pub name: &'static str,
    /// How long.
    pub period: Period,
    /// Who may change the period, and where.
    pub changed_by: ChangedBy,
    /// What for.
    pub purpose: Purpose,
    /// By which right; for the controller to confirm.
    pub basis: LegalBasis,
    /// Where.
    pub place: Place,
    /// How it is destroyed.
    pub destruction: Destruction,
    /// Whether this version keeps nothing of the kind.
    pub later: bool,
}

/// A destination off this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Destination {
    /// A name for people.
    pub name: &'static str,
    /// The names of the classes that are sent there.
    pub classes: &'static [&'static str],
}

/// Every destination off this machine to which the program sends a class by itself: none.
pub const DESTINATIONS: &[Destination] = &[];

impl DataClass {
    /// The table, as it holds with these periods.
    #[rustfmt::skip] // a table
    pub fn table(periods: &Periods) -> Vec<Self> {
        use ChangedBy as By;
        use Destruction as D;
        use LegalBasis as L;
        use Place as In;
        use Purpose as P;
        let days = |days: u32| Period::Seconds(u64::from(days) * DAY);
        vec![
            class("face_images", Period::Call, By::Fixed, P::Comparison, L::BiometricConsent, In::Memory, D::MemoryOverwritten),
            class("calls_in_memory", Period::Call, By::Fixed, P::Operation, L::BiometricConsent, In::Memory, D::MemoryOverwritten),
            class("face_features", Period::Person, By::ClientErases, P::Comparison, L::BiometricConsent, In::Records, D::KeyDestroyed),
            class("search_index", Period::Person, By::ClientErases, P::Comparison, L::BiometricConsent, In::Memory, D::MemoryOverwritten),
            class("person_id", Period::Person, By::ClientErases, P::Identification, L::Consent, In::Records, D::KeyDestroyed),
            class("consent", Period::Person, By::ClientErases, P::ProofOfConsent, L::Accountability, In::Records, D::KeyDestroyed),
            class("data_keys", Period::Person, By::ClientErases, P::Confidentiality, L::Security, In::Slots, D::Overwritten),
            class("comparison_counters", Period::Person, By::ClientErases, P::AbuseProtection, L::Security, In::Records, D::RowsDeleted),
            class("running_log", Period::Person, By::ClientErases, P::Transparency, L::Accountability, In::Records, D::KeyDestroyed),
            class("expired_persons", Period::Seconds(1), By::Fixed, P::Erasure, L::Accountability, In::Records, D::KeyDestroyed),
            class("deleted_records", Period::Purge, By::Fixed, P::Erasure, L::Accountability, In::Records, D::FilesRewritten),
            class("collections", Period::Collection, By::ClientDeletesCollection, P::Operation, L::NoPersonalData, In::Records, D::KeyDestroyed),
            class("accounts", Period::Deployment, By::Fixed, P::AccessControl, L::Security, In::Records, D::DeploymentClosed),
            class("error_log", Period::Bytes(periods.error_log_bytes), By::OperatorShortens("--error-log-mb"), P::FaultAnalysis, L::Security, In::Files, D::FilesRemoved),
            class("operation_log", days(periods.operation_log_days), By::OperatorShortens("--operation-log-days"), P::Operation, L::Operation, In::Files, D::FilesRemoved),
            class("monitoring_data", days(periods.monitoring_days), By::OperatorShortens("--monitoring-days"), P::Operation, L::Operation, In::Files, D::FilesRemoved),
            class("server_log", Period::StandardError, By::OperatorsSystem, P::FaultAnalysis, L::NoPersonalData, In::StandardError, D::OperatorsSystem),
            class("usage_totals", Period::Deployment, By::Fixed, P::Billing, L::Operation, In::Records, D::DeploymentClosed),
            class("erasure_log", Period::Deployment, By::Fixed, P::ProofOfErasure, L::Accountability, In::Files, D::DeploymentClosed),
            class("audit_log", Period::Deployment, By::Fixed, P::ProofOfAdministration, L::Accountability, In::Records, D::DeploymentClosed),
            class("idempotency_tokens", Period::Seconds(TOKENS_KEPT_MS / 1000), By::Fixed, P::Reliability, L::NoPersonalData, In::Records, D::RowsExpire),
            later("liveness_media", 2 * HOUR, By::OperatorToTenDays, P::LivenessCheck, L::BiometricConsent),
            later("liveness_results", 2 * HOUR, By::OperatorShortensLater, P::LivenessCheck, L::BiometricConsent),
            later("identity_documents", 2 * HOUR, By::OperatorShortensLater, P::DocumentCheck, L::Consent),
            later("identification_data", 30 * DAY, By::OperatorShortensLater, P::AgreedPurpose, L::Consent),
        ]
    }
}

const fn class(
    name: &'static str,
    period: Period,
    changed_by: ChangedBy,
    purpose: Purpose,
    basis: LegalBasis,
    place: Place,
    destruction: Destruction,
) -> DataClass {
    DataClass {
        name,
        period,
        changed_by,
        purpose,
        basis,
        place,
        destruction,
        later: false,
    }
}

/// Kept by a later version, in records under a key of their own.
const fn later(
    name: &'static str,
    seconds: u64,
    changed_by: ChangedBy,
    purpose: Purpose,
    basis: LegalBasis,
) -> DataClass {
    DataClass {
        name,
        period: Period::Seconds(seconds),
        changed_by,
        purpose,
        basis,
        place: Place::Records,
        destruction: Destruction::KeyDestroyed,
        later: true,
    }
}
