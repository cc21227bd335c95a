//! The texts of the policy in three languages, one row for each text. A missing language does not compile.

use std::ops::Index;

use likeness_engine::retention::{ChangedBy, Destruction, LegalBasis, Period, Place, Purpose};

/// The language of a text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Language {
    /// English
    #[default]
    En,
    /// Chinese
    Zh,
    /// Indonesian
    Id,
}

/// Every language.
pub const LANGUAGES: [Language; 3] = [Language::En, Language::Zh, Language::Id];

impl Language {
    /// As in `en`.
    pub fn code(self) -> &'static str {
        match self {
            Self::En => "en",
            Self::Zh => "zh",
            Self::Id => "id",
        }
    }

    /// The language of a code.
    pub fn of_code(code: &str) -> Option<Self> {
        LANGUAGES.into_iter().find(|language| language.code() == code)
    }
}

/// A text in English, Chinese and Indonesian.
#[derive(Debug, Clone, Copy)]
pub struct Text([&'static str; LANGUAGES.len()]);

impl Index<Language> for Text {
    type Output = &'static str;

    fn index(&self, language: Language) -> &Self::Output {
        match language {
            Language::En => &self.0[0],
            Language::Zh => &self.0[1],
            Language::Id => &self.0[2],
        }
    }
}

const fn text(english: &'static str, chinese: &'static str, indonesian: &'static str) -> Text {
    Text([english, chinese, indonesian])
}

pub(super) const CONTROLLER: Text = text("Controller", "个人信息处理者", "Pengendali data");
pub(super) const CONTACT: Text = text("Contact of the controller", "处理者联系方式", "Kontak pengendali");
pub(super) const REGION: Text = text(
    "Region in which everything is kept",
    "全部数据的存储地域",
    "Wilayah tempat semua data disimpan",
);
pub(super) const DESTINATIONS: Text = text(
    "Destinations off this machine",
    "本机以外的接收方",
    "Tujuan di luar mesin ini",
);
pub(super) const NO_DESTINATION: Text = text("none", "无", "tidak ada");
pub(super) const NOT_STATED: Text = text("not stated", "未声明", "tidak dinyatakan");
pub(super) const KEPT: Text = text("kept", "保留期限", "disimpan");
pub(super) const CHANGED_BY: Text = text("changed by", "可更改者", "dapat diubah oleh");
pub(super) const PURPOSE: Text = text("purpose", "目的", "tujuan");
pub(super) const BASIS: Text = text("legal basis", "法律依据", "dasar hukum");
pub(super) const PLACE: Text = text("place", "存储位置", "tempat");
pub(super) const DESTRUCTION: Text = text("destruction", "销毁方式", "pemusnahan");
pub(super) const NOTE: Text = text(
    "The legal bases are those that the program is designed for. Which of them holds depends on the law that applies \
     and on the use: the controller has to confirm each.",
    "上述法律依据为本程序设计时所设想的依据。具体适用何种依据取决于所适用的法律和使用方式，须由个人信息处理者逐项确认。",
    "Dasar hukum di atas adalah yang dituju oleh rancangan program ini. Dasar mana yang berlaku bergantung pada hukum \
     yang berlaku dan cara penggunaan: pengendali data harus memastikannya satu per satu.",
);

pub(super) const ONE_SECOND: Text = text(
    "1 second after the expiry",
    "到期后 1 秒",
    "1 detik setelah kedaluwarsa",
);
pub(super) const HOURS: Text = text("{} hours", "{} 小时", "{} jam");
pub(super) const DAYS: Text = text("{} days", "{} 天", "{} hari");
pub(super) const MEGABYTES: Text = text(
    "at most {} MB on disk, the oldest removed first",
    "磁盘占用不超过 {} MB，最早的记录先删除",
    "paling banyak {} MB di disk, yang tertua dihapus dahulu",
);
pub(super) const NOT_YET: Text = text(
    " (this version keeps none)",
    "（本版本不保留此类数据）",
    " (versi ini tidak menyimpannya)",
);

/// Periods without a number; those with one are above.
pub(super) fn period(period: Period) -> Text {
    match period {
        Period::Call => text(
            "as long as the call, in memory; never stored",
            "仅在调用期间存于内存，从不存储",
            "selama panggilan, di memori; tidak pernah disimpan",
        ),
        Period::Person => text(
            "until the person is erased",
            "直至该人员被删除",
            "sampai orang tersebut dihapus",
        ),
        Period::Collection => text(
            "until the collection is deleted",
            "直至该集合被删除",
            "sampai koleksi tersebut dihapus",
        ),
        Period::Deployment => text(
            "as long as the deployment",
            "与部署同期保留",
            "selama deployment berjalan",
        ),
        Period::Purge => text(
            "some seconds after the erasure, unreadable from the erasure on",
            "删除后数秒内清除，自删除起即不可读取",
            "beberapa detik setelah penghapusan, tidak terbaca sejak penghapusan",
        ),
        Period::StandardError => text(
            "not kept by the program",
            "程序本身不保留",
            "tidak disimpan oleh program",
        ),
        Period::Seconds(_) => ONE_SECOND,
        Period::Bytes(_) => MEGABYTES,
    }
}

pub(super) fn changed_by(role: ChangedBy) -> Text {
    match role {
        ChangedBy::Fixed => text("no role", "不可更改", "tidak dapat diubah"),
        ChangedBy::ClientErases => text(
            "the client: erasure, expiry or withdrawal of the consent",
            "客户：删除、到期或撤回同意",
            "klien: penghapusan, kedaluwarsa, atau penarikan persetujuan",
        ),
        ChangedBy::ClientDeletesCollection => text(
            "the client: deletion of the collection",
            "客户：删除集合",
            "klien: penghapusan koleksi",
        ),
        ChangedBy::OperatorShortens(_) => text(
            "the operator, to less",
            "运营者，只能缩短",
            "operator, hanya lebih singkat",
        ),
        ChangedBy::OperatorToTenDays => text(
            "the operator, to less, or of images and videos to 10 days",
            "运营者，可缩短；图像与视频可延长至 10 天",
            "operator, lebih singkat, atau sampai 10 hari untuk gambar dan video",
        ),
        ChangedBy::OperatorShortensLater => text(
            "the operator, to less",
            "运营者，只能缩短",
            "operator, hanya lebih singkat",
        ),
        ChangedBy::OperatorsSystem => text(
            "the operator, by the system that collects standard error",
            "运营者，由收集标准错误输出的系统决定",
            "operator, melalui sistem yang mengumpulkan standard error",
        ),
    }
}

pub(super) fn purpose(purpose: Purpose) -> Text {
    match purpose {
        Purpose::Comparison => text("comparing faces", "人脸比对", "membandingkan wajah"),
        Purpose::Identification => text(
            "telling the client which person was found",
            "向客户说明找到的人员",
            "memberi tahu klien orang mana yang ditemukan",
        ),
        Purpose::ProofOfConsent => text("proof of the consent", "证明同意", "bukti persetujuan"),
        Purpose::Confidentiality => text(
            "confidentiality, and erasure by destroying the key",
            "保密，以及通过销毁密钥实现删除",
            "kerahasiaan, dan penghapusan dengan memusnahkan kunci",
        ),
        Purpose::Transparency => text(
            "telling which calls concerned a person",
            "说明哪些调用涉及某人员",
            "menunjukkan panggilan mana yang menyangkut seseorang",
        ),
        Purpose::AbuseProtection => text(
            "protection against learning a face by many comparisons",
            "防止通过大量比对推断人脸",
            "perlindungan agar wajah tidak dipelajari lewat banyak perbandingan",
        ),
        Purpose::AccessControl => text("access control", "访问控制", "kendali akses"),
        Purpose::FaultAnalysis => text("analysis of faults", "故障分析", "analisis gangguan"),
        Purpose::Operation => text("operation of the service", "服务运行", "pengoperasian layanan"),
        Purpose::Billing => text("billing", "计费", "penagihan"),
        Purpose::ProofOfErasure => text("proof of erasures", "证明删除", "bukti penghapusan"),
        Purpose::ProofOfAdministration => text(
            "proof of acts of administrators",
            "证明管理员的操作",
            "bukti tindakan administrator",
        ),
        Purpose::Reliability => text(
            "carrying a repeated call out once",
            "重复的调用只执行一次",
            "panggilan yang diulang hanya dijalankan sekali",
        ),
        Purpose::Erasure => text("completing the erasure", "完成删除", "menyelesaikan penghapusan"),
        Purpose::LivenessCheck => text("liveness check", "活体检测", "pemeriksaan keaktifan (liveness)"),
        Purpose::DocumentCheck => text(
            "check of an identity document",
            "证件核验",
            "pemeriksaan dokumen identitas",
        ),
        Purpose::AgreedPurpose => text(
            "the purpose that the person agreed to",
            "本人明确同意的目的",
            "tujuan yang disetujui orang tersebut",
        ),
    }
}

pub(super) fn basis(basis: LegalBasis) -> Text {
    match basis {
        LegalBasis::BiometricConsent => text(
            "consent of the person to the processing of biometric data (e.g. GDPR Art. 9(2)(a), PIPL Art. 29, UU PDP Art. 20(2)(a))",
            "个人对处理生物识别信息的单独同意（例如 GDPR 第 9 条第 2 款 (a) 项、《个人信息保护法》第二十九条、印度尼西亚 UU PDP 第 20 条第 2 款 a 项）",
            "persetujuan orang tersebut atas pemrosesan data biometrik (mis. GDPR Pasal 9(2)(a), PIPL Pasal 29, UU PDP Pasal 20 ayat (2) huruf a)",
        ),
        LegalBasis::Consent => text(
            "consent of the person (e.g. GDPR Art. 6(1)(a), PIPL Art. 13, UU PDP Art. 20(2)(a))",
            "个人同意（例如 GDPR 第 6 条第 1 款 (a) 项、《个人信息保护法》第十三条、印度尼西亚 UU PDP 第 20 条第 2 款 a 项）",
            "persetujuan orang tersebut (mis. GDPR Pasal 6(1)(a), PIPL Pasal 13, UU PDP Pasal 20 ayat (2) huruf a)",
        ),
        LegalBasis::Accountability => text(
            "legal obligation: accountability of the controller (e.g. GDPR Art. 5(2) and 6(1)(c), PIPL Art. 13, UU PDP Art. 20(2)(c))",
            "法定义务：处理者的问责义务（例如 GDPR 第 5 条第 2 款与第 6 条第 1 款 (c) 项、《个人信息保护法》第十三条、印度尼西亚 UU PDP 第 20 条第 2 款 c 项）",
            "kewajiban hukum: akuntabilitas pengendali (mis. GDPR Pasal 5(2) dan 6(1)(c), PIPL Pasal 13, UU PDP Pasal 20 ayat (2) huruf c)",
        ),
        LegalBasis::Security => text(
            "legitimate interest: security of the service (e.g. GDPR Art. 6(1)(f), UU PDP Art. 20(2)(f))",
            "正当利益：服务安全（例如 GDPR 第 6 条第 1 款 (f) 项、印度尼西亚 UU PDP 第 20 条第 2 款 f 项）",
            "kepentingan yang sah: keamanan layanan (mis. GDPR Pasal 6(1)(f), UU PDP Pasal 20 ayat (2) huruf f)",
        ),
        LegalBasis::Operation => text(
            "legitimate interest: operation and billing of the service (e.g. GDPR Art. 6(1)(f), UU PDP Art. 20(2)(f))",
            "正当利益：服务运行与计费（例如 GDPR 第 6 条第 1 款 (f) 项、印度尼西亚 UU PDP 第 20 条第 2 款 f 项）",
            "kepentingan yang sah: pengoperasian dan penagihan layanan (mis. GDPR Pasal 6(1)(f), UU PDP Pasal 20 ayat (2) huruf f)",
        ),
        LegalBasis::NoPersonalData => text(
            "none needed, as far as it holds no personal data",
            "在不含个人信息的范围内无需法律依据",
            "tidak diperlukan, sejauh tidak memuat data pribadi",
        ),
    }
}

pub(super) fn place(place: Place) -> Text {
    match place {
        Place::Memory => text("memory alone", "仅内存", "hanya memori"),
        Place::Records => text(
            "the store in the data directory",
            "数据目录中的存储",
            "penyimpanan di direktori data",
        ),
        Place::Files => text(
            "files of their own in the data directory",
            "数据目录中的独立文件",
            "berkas tersendiri di direktori data",
        ),
        Place::Slots => text(
            "the slots in the data directory, wrapped under a key in the key store",
            "数据目录中的密钥槽，由密钥库中的密钥加密",
            "slot di direktori data, dibungkus dengan kunci di penyimpanan kunci",
        ),
        Place::StandardError => text("standard error", "标准错误输出", "aliran standard error"),
    }
}

pub(super) fn destruction(destruction: Destruction) -> Text {
    match destruction {
        Destruction::MemoryOverwritten => text("memory is overwritten", "覆写内存", "memori ditimpa"),
        Destruction::KeyDestroyed => text(
            "its key is overwritten, then the data files are rewritten without it",
            "覆写其密钥，随后重写数据文件将其清除",
            "kuncinya ditimpa, lalu berkas data ditulis ulang tanpanya",
        ),
        Destruction::Overwritten => text("overwritten in place", "就地覆写", "ditimpa di tempat"),
        Destruction::RowsDeleted => text(
            "deleted with the person's record, then the data files are rewritten without it",
            "随人员记录一并删除，随后重写数据文件将其清除",
            "dihapus bersama rekaman orang tersebut, lalu berkas data ditulis ulang tanpanya",
        ),
        Destruction::RowsExpire => text("rows are deleted", "删除记录行", "baris dihapus"),
        Destruction::FilesRemoved => text("files are removed", "删除文件", "berkas dihapus"),
        Destruction::FilesRewritten => text(
            "the data files are rewritten without it",
            "重写数据文件将其清除",
            "berkas data ditulis ulang tanpanya",
        ),
        Destruction::DeploymentClosed => text(
            "the keys are destroyed when the deployment is closed",
            "关闭部署时销毁密钥",
            "kunci dimusnahkan saat deployment ditutup",
        ),
        Destruction::OperatorsSystem => text(
            "by the system that collects standard error",
            "由收集标准错误输出的系统处理",
            "oleh sistem yang mengumpulkan standard error",
        ),
    }
}

/// What a class is; the name itself of a class that the list lacks, which a test forbids.
pub(super) fn title(name: &'static str) -> Text {
    let found = TITLES.iter().find(|(class, _)| *class == name);
    found.map_or(text(name, name, name), |(_, title)| *title)
}

#[rustfmt::skip] // a table
pub(super) const TITLES: &[(&str, Text)] = &[
    ("face_images", text("photographs", "人脸图像", "foto")),
    ("calls_in_memory", text("messages and results of calls in progress", "处理中的调用的消息与结果", "pesan dan hasil panggilan yang sedang diproses")),
    ("face_features", text("face features (irreversible templates)", "人脸特征（不可逆的二进制串）", "fitur wajah (templat yang tidak dapat dibalik)")),
    ("search_index", text("the index that is searched: templates and digests of tags", "用于检索的索引：模板与标签摘要", "indeks pencarian: templat dan ringkasan tag")),
    ("person_id", text("PersonID, name and tags", "PersonID、名称与标签", "PersonID, nama, dan tag")),
    ("consent", text("record of the consent", "同意记录", "catatan persetujuan")),
    ("data_keys", text("data keys of records", "记录的数据密钥", "kunci data rekaman")),
    ("comparison_counters", text("counters of comparisons with a person and its copies", "与人员及其副本的比对计数", "penghitung perbandingan dengan seseorang dan salinannya")),
    ("running_log", text("running log: caller, time and result of each call about a person", "运行日志：请求来源、账号、时间、接口、计费、PersonID 与识别结果", "log akses: pemanggil, waktu, dan hasil setiap panggilan tentang seseorang")),
    ("expired_persons", text("persons past their expiry, hidden from every call", "已到期的人员，任何调用均不可见", "orang yang kedaluwarsa, tersembunyi dari setiap panggilan")),
    ("deleted_records", text("sealed bytes of erased records in old data files", "旧数据文件中已删除记录的密文", "bita tersegel dari rekaman yang dihapus dalam berkas data lama")),
    ("collections", text("collections and their settings", "集合及其设置", "koleksi dan pengaturannya")),
    ("accounts", text("accounts, quotas and digests of API keys", "账号、配额与 API 密钥摘要", "akun, kuota, dan ringkasan kunci API")),
    ("error_log", text("error log", "错误日志", "log kesalahan")),
    ("operation_log", text("operation log", "操作日志", "log operasi")),
    ("monitoring_data", text("monitoring data", "监控数据", "data pemantauan")),
    ("server_log", text("the server's own log, without names of persons", "服务器自身的日志，不含人员名称", "log server sendiri, tanpa nama orang")),
    ("usage_totals", text("usage totals by account, interface and day", "按账号、接口与日期汇总的用量", "total penggunaan menurut akun, antarmuka, dan hari")),
    ("erasure_log", text("erasure log: receipts that name no person", "删除日志：不指明任何人的删除凭证", "log penghapusan: tanda terima yang tidak menyebut orang")),
    ("audit_log", text("audit log: acts of administrators", "审计日志：管理员的操作", "log audit: tindakan administrator")),
    ("idempotency_tokens", text("idempotency tokens", "幂等令牌", "token idempotensi")),
    ("liveness_media", text("liveness images, video and best frame", "活体检测的图像、视频与最佳帧", "gambar, video, dan bingkai terbaik pemeriksaan keaktifan")),
    ("liveness_results", text("liveness results and algorithm packets", "活体检测结果与算法数据包", "hasil pemeriksaan keaktifan dan paket algoritma")),
    ("identity_documents", text("identity-document images, portraits and fields read", "证件图像、证件人像与识别字段", "gambar dokumen identitas, potret, dan isian yang terbaca")),
    ("identification_data", text("identification data kept on explicit consent", "经明确同意保留的身份识别数据", "data identifikasi yang disimpan atas persetujuan eksplisit")),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use likeness_engine::retention::{DataClass, Periods};

    use super::*;

    #[test]
    fn every_class_has_one_title_and_no_title_is_without_a_class() {
        let table = DataClass::table(&Periods::default());
        let classes: BTreeSet<_> = table.iter().map(|class| class.name).collect();
        let titled: BTreeSet<_> = TITLES.iter().map(|(name, _)| *name).collect();
        assert_eq!(titled, classes);
        assert_eq!(TITLES.len(), classes.len());
    }

    #[test]
    fn a_language_is_found_by_its_code() {
        for language in LANGUAGES {
            assert_eq!(Language::of_code(language.code()), Some(language));
        }
        assert_eq!(Language::of_code("xx"), None);
    }
}
