//! Names that are no good as petnames, because the rest of the host's software means
//! something else by them.

/// Special-use names. `RFC 6761`, `RFC 6762`, `RFC 7686`, `RFC 8375`, `RFC 9476`, and `internal`, which ICANN set aside
const SPECIAL: &[&str] = &["alt", "arpa", "example", "internal", "invalid", "local", "localhost", "onion", "test"];

/// Common top-level domains beside the two-letter ones of countries, which are recognised by their length. Not all
/// of the fifteen hundred: a petname that hides a rare one is the user's choice. IANA root zone, generic part
const COMMON_TLDS: &[&str] = &[
    "academy",
    "aero",
    "agency",
    "app",
    "art",
    "asia",
    "bank",
    "beauty",
    "berlin",
    "best",
    "bike",
    "bio",
    "biz",
    "blog",
    "blue",
    "bond",
    "build",
    "business",
    "cafe",
    "cam",
    "capital",
    "care",
    "casa",
    "casino",
    "cat",
    "center",
    "chat",
    "city",
    "click",
    "cloud",
    "club",
    "coach",
    "codes",
    "coffee",
    "com",
    "community",
    "company",
    "cool",
    "coop",
    "cyou",
    "dance",
    "date",
    "day",
    "design",
    "dev",
    "digital",
    "direct",
    "domains",
    "download",
    "earth",
    "edu",
    "education",
    "email",
    "energy",
    "eus",
    "events",
    "expert",
    "express",
    "family",
    "fans",
    "farm",
    "fashion",
    "finance",
    "fit",
    "fun",
    "fund",
    "fyi",
    "gal",
    "games",
    "global",
    "gov",
    "green",
    "group",
    "guide",
    "guru",
    "health",
    "help",
    "host",
    "house",
    "icu",
    "info",
    "ing",
    "ink",
    "institute",
    "int",
    "international",
    "jobs",
    "land",
    "law",
    "legal",
    "life",
    "link",
    "live",
    "loan",
    "lol",
    "london",
    "love",
    "ltd",
    "market",
    "marketing",
    "media",
    "men",
    "mil",
    "mobi",
    "moe",
    "mom",
    "money",
    "museum",
    "name",
    "net",
    "network",
    "news",
    "ngo",
    "ninja",
    "nyc",
    "one",
    "online",
    "ooo",
    "org",
    "ovh",
    "page",
    "paris",
    "partners",
    "party",
    "photos",
    "pics",
    "post",
    "press",
    "pro",
    "pub",
    "quest",
    "red",
    "rest",
    "review",
    "rocks",
    "run",
    "sale",
    "sbs",
    "school",
    "science",
    "services",
    "shop",
    "show",
    "site",
    "social",
    "software",
    "solutions",
    "space",
    "store",
    "stream",
    "studio",
    "style",
    "support",
    "surf",
    "systems",
    "team",
    "tech",
    "technology",
    "tel",
    "tips",
    "today",
    "tokyo",
    "tools",
    "top",
    "tours",
    "town",
    "toys",
    "trade",
    "training",
    "travel",
    "university",
    "video",
    "vip",
    "wang",
    "watch",
    "website",
    "wiki",
    "win",
    "wine",
    "work",
    "works",
    "world",
    "wtf",
    "xin",
    "xxx",
    "xyz",
    "yoga",
    "zip",
    "zone",
];

/// Why a label is no good as a petname.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Reserved {
    /// It has a meaning of its own everywhere.
    #[error("it is a special-use name")]
    SpecialUse,
    /// It is a top-level domain: the petname would hide the real one.
    #[error("it is a top-level domain")]
    TopLevel,
    /// The host completes short names with a domain that ends in it.
    #[error("it is a search domain of this host")]
    SearchDomain,
}

/// Whether a petname would hide something else; `search_domains` are the host's. The label is in its canonical form.
#[must_use]
pub fn reserved_petname(label: &str, search_domains: &[String]) -> Option<Reserved> {
    if SPECIAL.contains(&label) {
        return Some(Reserved::SpecialUse);
    }
    let country = label.len() == 2 && label.bytes().all(|byte| byte.is_ascii_lowercase());
    if country || label.starts_with("xn--") && label.len() < 8 || COMMON_TLDS.binary_search(&label).is_ok() {
        return Some(Reserved::TopLevel);
    }
    let last = |domain: &String| domain.trim_matches('.').rsplit('.').next().map(str::to_ascii_lowercase);
    let searched = search_domains.iter().filter_map(last).any(|last| last == label);
    searched.then_some(Reserved::SearchDomain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_mean_something_by_is_reserved() {
        assert!(COMMON_TLDS.is_sorted());
        let search = ["corp.fritz.Box.".to_owned()];
        for (label, want) in [
            ("localhost", Some(Reserved::SpecialUse)),
            ("com", Some(Reserved::TopLevel)),
            ("de", Some(Reserved::TopLevel)),
            ("zone", Some(Reserved::TopLevel)),
            ("box", Some(Reserved::SearchDomain)),
            ("fritz", None),
            ("alice", None),
            ("a1", None),
        ] {
            assert_eq!(reserved_petname(label, &search), want, "{label}");
        }
    }
}
