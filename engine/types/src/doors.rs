//! Every call of the interface, and what it does with stored templates. A call that compares one is a [`Door`], and
//! only by a door there is a `Comparing`, which every function asks for that compares stored templates. So what is no
//! door here cannot compare one; `tests/doors.rs` walks the table against the interface's descriptors, and a call or a
//! field that is missing fails it.

/// What a call does with stored templates.
#[derive(Debug, Clone, Copy)]
pub enum Reads {
    /// It compares them, and its answer depends on what they are.
    Compares(&'static Door),
    /// It moves, copies or drops them as they are; its answer does not depend on their bits.
    Carries,
    /// It reads none.
    Nothing,
}

/// How the answers of a door are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// For the person that the call names: each face that is compared, before it is.
    Compared,
    /// For each person that the answer names.
    Named,
    /// The first for people whom the call names, the second for all others.
    ComparedOrNamed,
    /// For both people of each pair that the answer names.
    Paired,
    /// For no person: the answer is a figure over many comparisons that names nobody.
    Figures,
}

/// A call whose answer depends on stored templates.
#[derive(Debug)]
pub struct Door {
    /// The call.
    pub rpc: &'static str,
    /// Fields of its request that say what is compared with whom, and from where on the answer is yes.
    pub asks: &'static [&'static str],
    /// All its other fields.
    pub beside: &'static [&'static str],
    /// What of the answer depends on stored templates, with its order, its errors and what it takes.
    pub answers: &'static str,
    /// How that is counted.
    pub counted: Counted,
}

/// One face against one person.
pub static VERIFY: Door = Door {
    rpc: "VerifyPerson",
    asks: &["collection", "person_id", "photograph", "threshold", "comparison"],
    beside: &["face_choice", "quality_level"],
    answers: "same_person, similarity, estimate, and threshold by how often the person was recognised in doubt",
    counted: Counted::Compared,
};

/// One or more faces against everybody, or against the people of a filter.
pub static SEARCH: Door = Door {
    rpc: "SearchPersons",
    asks: &[
        "collections",
        "photograph",
        "top_k",
        "threshold",
        "comparison",
        "filter",
        "exact",
    ],
    beside: &["face_choice", "quality_level"],
    answers: "who is found, in which order, with which similarity and estimate; the time of the step that compares",
    counted: Counted::ComparedOrNamed,
};

/// New faces against everybody who is enrolled.
pub static ENROL: Door = Door {
    rpc: "EnrollPerson",
    asks: &["collection", "photographs", "checks"],
    beside: &[
        "person_id",
        "face_choice",
        "name",
        "tags",
        "consent",
        "all_or_nothing",
        "quality_level",
        "expires",
        "idempotency_token",
    ],
    answers: "whether the person is enrolled, and the duplicates, where checks.duplicate_strictness is set",
    counted: Counted::Named,
};

/// New faces against the person's own, and against everybody else.
pub static ADD_FACES: Door = Door {
    rpc: "AddFaces",
    asks: &[
        "collection",
        "person_id",
        "photographs",
        "checks",
        "all_or_nothing",
    ],
    beside: &["face_choice", "quality_level", "idempotency_token"],
    answers: "which photographs are taken and how similar they are, where checks.own_person is set; the duplicates, as of \
              EnrollPerson",
    counted: Counted::ComparedOrNamed,
};

/// Everybody against everybody.
pub static DUPLICATES: Door = Door {
    rpc: "FindDuplicates",
    asks: &["collection", "max_far", "cursor"],
    beside: &[],
    answers: "the pairs, with similarity and estimate; how many come in one answer",
    counted: Counted::Paired,
};

/// Stored faces with noise against everybody.
pub static MEASURE: Door = Door {
    rpc: "MeasureIndex",
    asks: &["collection", "people_max", "probes"],
    beside: &[],
    answers: "how often two ways of searching agree, and how long they take",
    counted: Counted::Figures,
};

/// Every call of the interface.
pub const CALLS: &[(&str, Reads)] = &[
    ("VerifyPerson", Reads::Compares(&VERIFY)),
    ("SearchPersons", Reads::Compares(&SEARCH)),
    ("EnrollPerson", Reads::Compares(&ENROL)),
    ("AddFaces", Reads::Compares(&ADD_FACES)),
    ("FindDuplicates", Reads::Compares(&DUPLICATES)),
    ("MeasureIndex", Reads::Compares(&MEASURE)),
    // Its check that faces are one person's compares those of one item with each other; the check for duplicates is
    // refused.
    ("ImportPersons", Reads::Nothing),
    ("CopyPerson", Reads::Carries),
    ("RenamePerson", Reads::Carries),
    ("UpdatePerson", Reads::Carries),
    ("DeleteFaces", Reads::Carries),
    ("WithdrawConsent", Reads::Carries),
    // Another kind of index is built of the faces that are there.
    ("UpdateCollection", Reads::Carries),
    // Both photographs are the caller's.
    ("CompareFaces", Reads::Nothing),
    ("DetectFaces", Reads::Nothing),
    ("GetPerson", Reads::Nothing),
    ("ListPersons", Reads::Nothing),
    ("ExportPerson", Reads::Nothing),
    ("ListConsents", Reads::Nothing),
    ("DeletePerson", Reads::Nothing),
    ("DeletePersons", Reads::Nothing),
    ("EraseEverywhere", Reads::Nothing),
    ("CreateCollection", Reads::Nothing),
    ("GetCollection", Reads::Nothing),
    ("ListCollections", Reads::Nothing),
    ("DeleteCollection", Reads::Nothing),
    ("GetErasureReceipt", Reads::Nothing),
    ("ListErasureReceipts", Reads::Nothing),
    ("GetErasureStatus", Reads::Nothing),
    // Fingerprints of sealed bytes.
    ("PrepareResidueAudit", Reads::Nothing),
    ("RotateWrappingKey", Reads::Nothing),
    ("RotateSigningKey", Reads::Nothing),
    ("DestroyKeyGroup", Reads::Nothing),
    ("CreateAccount", Reads::Nothing),
    ("GetAccount", Reads::Nothing),
    ("ListAccounts", Reads::Nothing),
    ("UpdateAccount", Reads::Nothing),
    ("CloseAccount", Reads::Nothing),
    ("ListAuditLog", Reads::Nothing),
    ("CreateApiKey", Reads::Nothing),
    ("ListApiKeys", Reads::Nothing),
    ("RevokeApiKey", Reads::Nothing),
    // What calls came to, as their callers were told it.
    ("ListRunningLog", Reads::Nothing),
    ("ExportRunningLog", Reads::Nothing),
    ("GetUsage", Reads::Nothing),
    ("GetPolicy", Reads::Nothing),
];

/// The right to compare stored templates, by a door. Whatever compares them asks for it.
pub struct Comparing {
    _door: &'static Door,
}

impl Comparing {
    /// What is answered after this is counted as the door says.
    pub fn at(door: &'static Door) -> Self {
        Self { _door: door }
    }
}
