//! Where a request goes: to a name of ours, to the clearnet where that is allowed, or nowhere.

use std::net::IpAddr;

use tarnet_core::crypto::ServiceId;

use super::codec::Address;

/// Whose an address is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    /// Synthetic, and stands for this name.
    Name(String),
    /// Synthetic, and stands for nothing.
    Nobody,
    /// Not one of ours.
    Foreign,
}

/// What knows which name a synthetic address stands for.
pub trait AddressBook: Send + Sync + 'static {
    /// Whose `address` is.
    fn owner(&self, address: IpAddr) -> Owner;
}

/// The book of a daemon without TUN: no address is ours.
pub struct NoAddresses;

impl AddressBook for NoAddresses {
    fn owner(&self, _: IpAddr) -> Owner {
        Owner::Foreign
    }
}

impl AddressBook for crate::tun::book::AddressBook {
    fn owner(&self, address: IpAddr) -> Owner {
        let addresses = self.addresses();
        match addresses.slot(address).and_then(|slot| self.name(slot)) {
            Some(name) => Owner::Name(name.to_string()),
            None if addresses.routes(address) => Owner::Nobody,
            None => Owner::Foreign,
        }
    }
}

/// Where to look first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Route {
    /// On the overlay, and nowhere else.
    Overlay(String),
    /// On the overlay; if TNS does not know it, on the clearnet where that is allowed.
    Name(String),
    /// On the clearnet where that is allowed.
    Clearnet(IpAddr),
    /// Nowhere: a synthetic address that stands for nothing.
    Nowhere,
}

/// Decides. Names under our suffix and names that end in a ServiceId never leave for the clearnet.
pub(super) fn route(address: &Address, book: &dyn AddressBook, suffix: &str) -> Route {
    match address {
        Address::Ip(ip) => match book.owner(*ip) {
            Owner::Name(name) => Route::Overlay(name),
            Owner::Nobody => Route::Nowhere,
            Owner::Foreign => Route::Clearnet(*ip),
        },
        Address::Name(name) => {
            let plain = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
            let ours = plain == suffix || plain.strip_suffix(suffix).is_some_and(|rest| rest.ends_with('.'));
            if ours || last_label(&plain).parse::<ServiceId>().is_ok() {
                Route::Overlay(name.clone())
            } else {
                Route::Name(name.clone())
            }
        }
    }
}

/// The rightmost label of a name.
pub(super) fn last_label(name: &str) -> &str {
    let name = name.strip_suffix('.').unwrap_or(name);
    name.rsplit_once('.').map_or(name, |(_, last)| last)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 198.18.0.1 is blog.alice, 198.18.0.2 is ours and free.
    struct Book;

    impl AddressBook for Book {
        fn owner(&self, address: IpAddr) -> Owner {
            match address.to_string().as_str() {
                "198.18.0.1" => Owner::Name("blog.alice".into()),
                "198.18.0.2" => Owner::Nobody,
                _ => Owner::Foreign,
            }
        }
    }

    #[test]
    fn only_foreign_names_and_addresses_may_leave() {
        let of = |address: Address| route(&address, &Book, "tarnet.alt");
        let name = |text: &str| Address::Name(text.into());
        let ip = |text: &str| Address::Ip(text.parse().unwrap());
        assert_eq!(of(ip("198.18.0.1")), Route::Overlay("blog.alice".into()));
        assert_eq!(of(ip("198.18.0.2")), Route::Nowhere);
        assert_eq!(of(ip("192.0.2.1")), Route::Clearnet("192.0.2.1".parse().unwrap()));
        assert!(matches!(of(name("blog.alice.Tarnet.Alt.")), Route::Overlay(_)));
        assert!(matches!(of(name(&format!("blog.{}", ServiceId([8; 32])))), Route::Overlay(_)));
        assert!(matches!(of(name("example.org")), Route::Name(_)));
        assert!(matches!(of(name("nottarnet.alt")), Route::Name(_)));
        assert_eq!((last_label("a.b."), last_label("x")), ("b", "x"));
    }
}
