//! The rules of our table as nf_tables' expressions, and back.
//!
//! What is read back is compared as meaning: expressions that are none of ours make the rule [`Rule::Other`].
//! Layout: `linux/netfilter/nf_tables.h`; the expressions are those that `nft --debug=netlink` prints.

pub(super) mod foreign;
pub(super) mod guard;
mod read;
mod write;

use trimtab_domain::masquerade::{Exception, Family, Masquerading, Pool, PortProtocol};

use self::read::{expressions_of, parse_exception, parse_jump, parse_lookup, parse_masquerade};
use self::write::{Expressions, except, masquerade};
use super::wire::{Attributes, Received};

/// Names of what is in our table.
pub(super) const SET: &str = "exempt";
pub(super) const SOURCES: &str = "sources";
pub(super) const MASQ: &str = "masq";

/// `NFTA_LIST_ELEM`, `NFTA_EXPR_NAME`, `NFTA_EXPR_DATA`.
const ELEMENT: u16 = 1;
const NAME: u16 = 1;
const DATA: u16 = 2;
/// `NFTA_DATA_VALUE`, `NFTA_DATA_VERDICT`, `NFTA_VERDICT_CODE`, `NFTA_VERDICT_CHAIN`.
const VALUE: u16 = 1;
const VERDICT: u16 = 2;
const VERDICT_CODE: u16 = 1;
const VERDICT_CHAIN: u16 = 2;
/// `NFT_JUMP`, `NFT_RETURN`, as the unsigned numbers that travel.
const JUMP: u32 = (-3_i32).cast_unsigned();
const RETURN: u32 = (-5_i32).cast_unsigned();
/// `NFT_REG_VERDICT`, `NFT_REG_1`, `NFT_REG_2`.
const REGISTER_VERDICT: u32 = 0;
const REGISTER_1: u32 = 1;
const REGISTER_2: u32 = 2;
/// `NFT_REG_3`, `NFT_REG_4`: ports where the first two hold addresses.
const REGISTER_3: u32 = 3;
const REGISTER_4: u32 = 4;
/// `NFT_CMP_EQ`, `NFT_CMP_NEQ`, `NFT_CMP_LT`, `NFT_CMP_LTE`, `NFT_CMP_GTE`.
const EQUAL: u32 = 0;
const NOT_EQUAL: u32 = 1;
const LESS: u32 = 2;
const AT_MOST: u32 = 3;
const AT_LEAST: u32 = 5;
/// `NFT_PAYLOAD_NETWORK_HEADER`, `NFT_PAYLOAD_TRANSPORT_HEADER`.
const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;
/// `NFT_META_MARK`, `NFT_META_IIFNAME`, `NFT_META_OIFNAME`, `NFT_META_L4PROTO`.
const META_MARK: u32 = 3;
const META_IN_NAME: u32 = 6;
const META_OUT_NAME: u32 = 7;
const META_L4PROTO: u32 = 16;
/// `IFNAMSIZ` of `linux/if.h`: a name fills its register, with zeros behind it.
const NAME_BYTES: usize = 16;
/// `NFT_LOOKUP_F_INV`: the rule matches what the set does not hold.
const INVERTED: u32 = 1;
/// `NFT_NAT_SNAT`; `NF_NAT_RANGE_MAP_IPS`, which the kernel adds.
const SOURCE_NAT: u32 = 0;
const ADDRESSES_GIVEN: u32 = 1;
/// `NFT_FIB_RESULT_ADDRTYPE`, `NFTA_FIB_F_DADDR`; `RTN_LOCAL` of `linux/rtnetlink.h`.
const FIB_ADDRESS_TYPE: u32 = 3;
const FIB_DESTINATION: u32 = 2;
const LOCAL: u32 = 2;
/// `NFT_NG_RANDOM`, `NFT_BYTEORDER_HTON`.
const RANDOM: u32 = 1;
const TO_NETWORK_ORDER: u32 = 1;
/// `NF_NAT_RANGE_PROTO_SPECIFIED`, `NF_NAT_RANGE_PROTO_RANDOM_FULLY`.
const PORTS_GIVEN: u32 = 1 << 1;
const RANDOM_FULLY: u32 = 1 << 4;

/// One rule of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Rule {
    /// `fib daddr type != local jump masq`.
    Jump,
    /// `ip daddr @exempt counter return`.
    Exempt,
    /// `… counter return`.
    Except(Exception),
    /// `ip saddr != @sources counter return`.
    NotFrom,
    /// `… counter masquerade …`, or `… counter snat to …`.
    Masquerade(Masquerading, Option<Pool>),
    /// None of ours.
    Other,
}

impl Rule {
    /// `NFTA_RULE_EXPRESSIONS`; nothing for [`Self::Other`].
    pub(super) fn expressions(&self, family: Family) -> Attributes {
        match self {
            Self::Jump => Expressions::default()
                .add("fib", |data| data.number(1, REGISTER_1).number(2, FIB_ADDRESS_TYPE).number(3, FIB_DESTINATION))
                .compare(NOT_EQUAL, &LOCAL.to_ne_bytes())
                .verdict(JUMP, Some(MASQ)),
            Self::Exempt => Expressions::default()
                .load(NETWORK_HEADER, destination(family))
                .add("lookup", |data| data.text(1, SET).number(2, REGISTER_1))
                .counter()
                .verdict(RETURN, None),
            Self::NotFrom => Expressions::default()
                .load(NETWORK_HEADER, source(family))
                .add("lookup", |data| data.text(1, SOURCES).number(2, REGISTER_1).number(5, INVERTED))
                .counter()
                .verdict(RETURN, None),
            Self::Except(exception) => except(exception).counter().verdict(RETURN, None),
            Self::Masquerade(rule, pool) => masquerade(*rule, *pool, family),
            Self::Other => Expressions::default(),
        }
        .0
    }

    /// Reads `NFTA_RULE_EXPRESSIONS`.
    pub(super) fn parse(expressions: Received<'_>, family: Family) -> Self {
        let Some(list) = expressions_of(expressions) else { return Self::Other };
        parse_jump(&list)
            .or_else(|| parse_lookup(&list, family))
            .or_else(|| parse_exception(&list).map(Self::Except))
            .or_else(|| parse_masquerade(&list, family))
            .unwrap_or(Self::Other)
    }
}

/// The name as it fills its register.
fn interface_bytes(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.resize(NAME_BYTES, 0);
    bytes
}

/// Offset and length of the source in the header.
const fn source(family: Family) -> (u32, u32) {
    match family {
        Family::V4 => (12, 4),
        Family::V6 => (8, 16),
    }
}

/// Offset and length of the destination in the header.
const fn destination(family: Family) -> (u32, u32) {
    match family {
        Family::V4 => (16, 4),
        Family::V6 => (24, 16),
    }
}

/// IANA's numbers.
const fn protocol_number(protocol: PortProtocol) -> u8 {
    match protocol {
        PortProtocol::Tcp => 6,
        PortProtocol::Udp => 17,
        PortProtocol::Sctp => 132,
    }
}

#[cfg(test)]
mod tests;
