//! The one table of retention: each data class, its period, and the party that may change it. The limits of the running server
//! are taken from it, and `likeness policy` prints it.

use clap::Args;

const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;
const MB: u64 = 1_000_000;
/// The most an error log may take: two gigabytes.
const ERROR_LOG_MB_MAX: u64 = 2000;
/// Two years.
const DAYS_MAX: i64 = 730;

/// What the operator may set of the table.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Retention")]
pub struct Retention {
    /// Most megabytes of the error log on disk; the oldest lines go first
    #[arg(long, env = "LIKENESS_ERROR_LOG_MB", value_name = "MB", default_value_t = ERROR_LOG_MB_MAX, value_parser = clap::value_parser!(u64).range(1..=ERROR_LOG_MB_MAX))]
    pub error_log_mb: u64,

    /// Days that the operation log is kept
    #[arg(long, env = "LIKENESS_OPERATION_LOG_DAYS", value_name = "DAYS", default_value_t = 730, value_parser = clap::value_parser!(u32).range(1..=DAYS_MAX))]
    pub operation_log_days: u32,

    /// Days that monitoring data are kept
    #[arg(long, env = "LIKENESS_MONITORING_DAYS", value_name = "DAYS", default_value_t = 730, value_parser = clap::value_parser!(u32).range(1..=DAYS_MAX))]
    pub monitoring_days: u32,

    /// Megabytes of running log above which the server's log warns every hour
    #[arg(
        long,
        env = "LIKENESS_RUNNING_LOG_WARNING_MB",
        value_name = "MB",
        default_value_t = 4000
    )]
    pub running_log_warning_mb: u64,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            error_log_mb: ERROR_LOG_MB_MAX,
            operation_log_days: 730,
            monitoring_days: 730,
            running_log_warning_mb: 4000,
        }
    }
}

/// How long something is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// Not at all.
    Never,
    /// Until the person is erased.
    WithThePerson,
    /// As long as the deployment.
    Always,
    /// So many seconds.
    Seconds(u64),
    /// So many bytes, the oldest going first.
    Bytes(u64),
}

/// Who may change it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangedBy {
    /// Nobody: the program knows no other way.
    Nobody,
    /// The client, by erasing or by an expiry.
    Client,
    /// The operator, to less.
    OperatorDown,
    /// The operator, to less, or to ten days.
    OperatorToTenDays,
}

/// The language of a text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Language {
    /// English
    #[default]
    En,
    /// Chinese
    Zh,
}

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Class {
    /// As in `operation_log`.
    pub name: &'static str,
    /// English, Chinese.
    titles: [&'static str; 2],
    /// How long.
    pub kept: Kept,
    /// By whom it may be changed.
    pub changed_by: ChangedBy,
    /// This version keeps nothing of the kind.
    pub later: bool,
}

const fn class(name: &'static str, titles: [&'static str; 2], kept: Kept, changed_by: ChangedBy) -> Class {
    Class {
        name,
        titles,
        kept,
        changed_by,
        later: false,
    }
}

const fn later(name: &'static str, titles: [&'static str; 2], seconds: u64, changed_by: ChangedBy) -> Class {
    Class {
        name,
        titles,
        kept: Kept::Seconds(seconds),
        changed_by,
        later: true,
    }
}

impl Retention {
    /// Most bytes of the error log on disk.
    pub fn error_log_bytes(&self) -> u64 {
        self.error_log_mb * MB
    }

    /// Bytes of the running log from which on the operator is warned.
    pub fn running_log_bytes_warning(&self) -> u64 {
        self.running_log_warning_mb.saturating_mul(MB)
    }

    /// The table, as it holds with these settings.
    #[rustfmt::skip] // a table
    pub fn table(&self) -> Vec<Class> {
        use ChangedBy::{Client, Nobody, OperatorDown, OperatorToTenDays};
        let days = |days: u32| Kept::Seconds(u64::from(days) * DAY);
        vec![
            class("face_images", ["photographs", "人脸图像"], Kept::Never, Nobody),
            class("face_features", ["face features (irreversible templates)", "人脸特征（不可逆的二进制串）"], Kept::WithThePerson, Client),
            class("person_id", ["PersonID, name, tags and consent", "PersonID、名称、标签与同意记录"], Kept::WithThePerson, Client),
            class("running_log", ["running log: who was asked about when, and the result", "运行日志：请求来源、账号、时间、接口、计费、PersonID 与识别结果"], Kept::WithThePerson, Client),
            class("error_log", ["error log", "错误日志"], Kept::Bytes(self.error_log_bytes()), OperatorDown),
            class("operation_log", ["operation log", "操作日志"], days(self.operation_log_days), OperatorDown),
            class("monitoring_data", ["monitoring data", "监控数据"], days(self.monitoring_days), OperatorDown),
            class("usage_totals", ["usage totals by account, interface and day", "按账号、接口与日期汇总的用量"], Kept::Always, Nobody),
            class("erasure_log", ["erasure log: receipts that name nobody", "删除日志：不指明任何人的删除凭证"], Kept::Always, Nobody),
            class("audit_log", ["audit log: what administrators did", "审计日志：管理员的操作"], Kept::Always, Nobody),
            class("idempotency_tokens", ["idempotency tokens", "幂等令牌"], Kept::Seconds(DAY), Nobody),
            later("liveness_media", ["liveness images, video and best frame", "活体检测的图像、视频与最佳帧"], 2 * HOUR, OperatorToTenDays),
            later("liveness_results", ["liveness results and algorithm packets", "活体检测结果与算法数据包"], 2 * HOUR, OperatorDown),
            later("identity_documents", ["identity-document images, portraits and fields read", "证件图像、证件人像与识别字段"], 2 * HOUR, OperatorDown),
            later("identification_data", ["identification data kept on explicit consent", "经明确同意保留的身份识别数据"], 30 * DAY, OperatorDown),
        ]
    }
}

impl Class {
    /// What it is.
    pub fn title(&self, language: Language) -> &'static str {
        self.titles[language as usize]
    }

    /// How long it is kept.
    pub fn kept_text(&self, language: Language) -> String {
        let period = match (self.kept, language) {
            (Kept::Never, Language::En) => "never stored".to_owned(),
            (Kept::Never, Language::Zh) => "从不存储".to_owned(),
            (Kept::WithThePerson, Language::En) => "until the person is erased".to_owned(),
            (Kept::WithThePerson, Language::Zh) => "直至该人员被删除".to_owned(),
            (Kept::Always, Language::En) => "as long as the deployment".to_owned(),
            (Kept::Always, Language::Zh) => "与部署同期保留".to_owned(),
            (Kept::Seconds(seconds), Language::En) if seconds < DAY => format!("{} hours", seconds / HOUR),
            (Kept::Seconds(seconds), Language::Zh) if seconds < DAY => format!("{} 小时", seconds / HOUR),
            (Kept::Seconds(DAY), Language::En) => "24 hours".to_owned(),
            (Kept::Seconds(DAY), Language::Zh) => "24 小时".to_owned(),
            (Kept::Seconds(seconds), Language::En) => format!("{} days", seconds / DAY),
            (Kept::Seconds(seconds), Language::Zh) => format!("{} 天", seconds / DAY),
            (Kept::Bytes(bytes), Language::En) => {
                format!("at most {} MB on disk, the oldest removed first", bytes / MB)
            }
            (Kept::Bytes(bytes), Language::Zh) => {
                format!("磁盘占用不超过 {} MB，最早的记录先删除", bytes / MB)
            }
        };
        match (self.later, language) {
            (false, _) => period,
            (true, Language::En) => format!("{period} (this version keeps none)"),
            (true, Language::Zh) => format!("{period}（本版本不保留此类数据）"),
        }
    }

    /// Who may change that.
    pub fn changed_by_text(&self, language: Language) -> &'static str {
        match (self.changed_by, language) {
            (ChangedBy::Nobody, Language::En) => "nobody",
            (ChangedBy::Nobody, Language::Zh) => "不可更改",
            (ChangedBy::Client, Language::En) => "the client: erasure, expiry or withdrawal of the consent",
            (ChangedBy::Client, Language::Zh) => "客户：删除、到期或撤回同意",
            (ChangedBy::OperatorDown, Language::En) => "the operator, to less",
            (ChangedBy::OperatorDown, Language::Zh) => "运营者，只能缩短",
            (ChangedBy::OperatorToTenDays, Language::En) => {
                "the operator, to less, or of images and videos to 10 days"
            }
            (ChangedBy::OperatorToTenDays, Language::Zh) => "运营者，可缩短；图像与视频可延长至 10 天",
        }
    }
}

/// The whole table for people to read.
pub fn text<'a>(
    region: &str,
    language: Language,
    rows: impl Iterator<Item = (&'a str, &'a str, &'a str)>,
) -> String {
    let mut text = match language {
        Language::En => format!("What is kept in the region {region}, and for how long:\n"),
        Language::Zh => format!("地域 {region} 的数据保留策略：\n"),
    };
    for (title, kept, changed_by) in rows {
        text += &match language {
            Language::En => format!("- {title}: {kept}; changed by: {changed_by}\n"),
            Language::Zh => format!("- {title}：{kept}；可更改者：{changed_by}\n"),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Arguments {
        #[command(flatten)]
        retention: Retention,
    }

    fn of(arguments: &[&str]) -> Result<Retention, clap::Error> {
        let all = ["test"].iter().chain(arguments);
        Arguments::try_parse_from(all).map(|parsed| parsed.retention)
    }

    #[test]
    fn the_operator_may_shorten_and_never_lengthen() {
        let retention = of(&["--operation-log-days", "90", "--error-log-mb", "10"]).expect("shorter");
        let kept = |name| {
            let table = retention.table();
            table
                .iter()
                .find(|class| class.name == name)
                .expect("a class")
                .kept
        };
        assert_eq!(kept("operation_log"), Kept::Seconds(90 * DAY));
        assert_eq!(kept("monitoring_data"), Kept::Seconds(730 * DAY));
        assert_eq!(kept("error_log"), Kept::Bytes(10 * MB));
        for longer in [
            ["--operation-log-days", "731"],
            ["--monitoring-days", "731"],
            ["--error-log-mb", "2001"],
            ["--error-log-mb", "0"],
        ] {
            assert!(of(&longer).is_err(), "{longer:?}");
        }
    }

    #[test]
    fn every_class_is_said_in_both_languages_and_the_media_are_named() {
        let table = of(&[]).expect("defaults").table();
        let is_chinese = |text: &str| text.chars().any(|c| c > '\u{3000}');
        for class in &table {
            assert!(!is_chinese(class.title(Language::En)) && is_chinese(class.title(Language::Zh)));
            assert!(
                !is_chinese(&class.kept_text(Language::En)) && is_chinese(&class.kept_text(Language::Zh))
            );
            assert!(is_chinese(class.changed_by_text(Language::Zh)));
        }
        let of_later = table.iter().filter(|class| class.later).map(|class| class.name);
        assert_eq!(
            of_later.collect::<Vec<_>>(),
            [
                "liveness_media",
                "liveness_results",
                "identity_documents",
                "identification_data"
            ]
        );
    }
}
