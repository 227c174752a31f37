//! A rule of ours, as the expressions that travel to the kernel.

use std::net::IpAddr;

use trimtab_domain::masquerade::{Exception, Family, Masquerading, Pool};

use super::super::family_number;
use super::super::wire::Attributes;
use super::{
    AT_LEAST, AT_MOST, DATA, ELEMENT, EQUAL, LESS, META_L4PROTO, META_MARK, META_OUT_NAME, NAME, PORTS_GIVEN, RANDOM,
    RANDOM_FULLY, REGISTER_1, REGISTER_2, REGISTER_3, REGISTER_4, REGISTER_VERDICT, SOURCE_NAT, TO_NETWORK_ORDER,
    TRANSPORT_HEADER, VALUE, VERDICT, VERDICT_CHAIN, VERDICT_CODE, interface_bytes, protocol_number,
};

/// Expressions of a rule, in order.
#[derive(Default)]
pub(super) struct Expressions(pub(super) Attributes);

impl Expressions {
    pub(super) fn add(self, name: &str, data: impl FnOnce(Attributes) -> Attributes) -> Self {
        let expression = Attributes::default().text(NAME, name).nested(DATA, &data(Attributes::default()));
        Self(self.0.nested(ELEMENT, &expression))
    }

    /// Loads a field of a header into register 1.
    pub(super) fn load(self, header: u32, (offset, length): (u32, u32)) -> Self {
        self.add("payload", |data| data.number(1, REGISTER_1).number(2, header).number(3, offset).number(4, length))
    }

    /// Loads what the packet is about into register 1.
    pub(super) fn meta(self, key: u32) -> Self {
        self.add("meta", |data| data.number(1, REGISTER_1).number(2, key))
    }

    /// Compares register 1.
    pub(super) fn compare(self, operation: u32, with: &[u8]) -> Self {
        let value = Attributes::default().bytes(VALUE, with);
        self.add("cmp", |data| data.number(1, REGISTER_1).number(2, operation).nested(3, &value))
    }

    pub(super) fn counter(self) -> Self {
        self.add("counter", |data| data.bytes(1, &[0; 8]).bytes(2, &[0; 8]))
    }

    pub(super) fn verdict(self, code: u32, chain: Option<&str>) -> Self {
        let verdict = Attributes::default().number(VERDICT_CODE, code);
        let verdict = match chain {
            Some(chain) => verdict.text(VERDICT_CHAIN, chain),
            None => verdict,
        };
        let data = Attributes::default().nested(VERDICT, &verdict);
        self.add("immediate", |attributes| attributes.number(1, REGISTER_VERDICT).nested(2, &data))
    }

    pub(super) fn immediate(self, register: u32, value: &[u8]) -> Self {
        let data = Attributes::default().bytes(VALUE, value);
        self.add("immediate", |attributes| attributes.number(1, register).nested(2, &data))
    }

    /// A single port is one register, as nft has it.
    pub(super) fn ports(self, (first, last): (u32, u32), registers: (u32, u32)) -> Self {
        // Checked before it gets here (Policy::check).
        let bytes = |port: u32| u16::try_from(port).unwrap_or(u16::MAX).to_be_bytes();
        let list = self.immediate(registers.0, &bytes(first));
        if first == last { list } else { list.immediate(registers.1, &bytes(last)) }
    }
}

pub(super) fn except(exception: &Exception) -> Expressions {
    let list = Expressions::default();
    match exception {
        Exception::Ports { protocol, first, last } => {
            let list = list.meta(META_L4PROTO).compare(EQUAL, &[protocol_number(*protocol)]);
            // Destination port of TCP, UDP and SCTP alike.
            let list = list.load(TRANSPORT_HEADER, (2, 2));
            list.compare(AT_LEAST, &first.to_be_bytes()).compare(AT_MOST, &last.to_be_bytes())
        }
        Exception::Interface(name) => list.meta(META_OUT_NAME).compare(EQUAL, &interface_bytes(name)),
        Exception::Mark { value, mask } => {
            let value_of = |number: u32| Attributes::default().bytes(VALUE, &number.to_ne_bytes());
            let bits = |data: Attributes| {
                let data = data.number(1, REGISTER_1).number(2, REGISTER_1).number(3, 4);
                data.nested(4, &value_of(*mask)).nested(5, &value_of(0))
            };
            list.meta(META_MARK).add("bitwise", bits).compare(EQUAL, &value.to_ne_bytes())
        }
    }
}

pub(super) fn masquerade(rule: Masquerading, pool: Option<Pool>, family: Family) -> Expressions {
    let mut list = Expressions::default();
    if let Some(protocol) = rule.protocol {
        list = list
            .add("meta", |data| data.number(1, REGISTER_1).number(2, META_L4PROTO))
            .compare(EQUAL, &[protocol_number(protocol)]);
    }
    if let Some(share) = rule.share {
        list = list
            .add("numgen", |data| data.number(1, REGISTER_1).number(2, share.whole).number(3, RANDOM))
            // The comparison reads the register from its first byte on, so the number must be big-endian.
            .add("byteorder", |data| {
                data.number(1, REGISTER_1).number(2, REGISTER_1).number(3, TO_NETWORK_ORDER).number(4, 4).number(5, 4)
            })
            .compare(LESS, &share.part.to_be_bytes());
    }
    list = list.counter();
    let random = if rule.random_fully { RANDOM_FULLY } else { 0 };
    // Without the flag the kernel keeps the registers and looks at neither.
    let flags = random | if rule.ports.is_some() { PORTS_GIVEN } else { 0 };
    let is_one = rule.ports.is_some_and(|(first, last)| first == last);
    let with_ports = |data: Attributes, kinds: (u16, u16), registers: (u32, u32)| match rule.ports {
        None => data,
        Some(_) if is_one => data.number(kinds.0, registers.0),
        Some(_) => data.number(kinds.0, registers.0).number(kinds.1, registers.1),
    };
    let Some(pool) = pool else {
        let registers = (REGISTER_1, REGISTER_2);
        if let Some(ports) = rule.ports {
            list = list.ports(ports, registers);
        }
        return list.add("masq", |data| {
            let data = if flags == 0 { data } else { data.number(1, flags) };
            with_ports(data, (2, 3), registers)
        });
    };
    list = list.immediate(REGISTER_1, &address_bytes(pool.first)).immediate(REGISTER_2, &address_bytes(pool.last));
    let registers = (REGISTER_3, REGISTER_4);
    if let Some(ports) = rule.ports {
        list = list.ports(ports, registers);
    }
    list.add("nat", |data| {
        let data = data.number(1, SOURCE_NAT).number(2, u32::from(family_number(family)));
        let data = with_ports(data.number(3, REGISTER_1).number(4, REGISTER_2), (5, 6), registers);
        if flags == 0 { data } else { data.number(7, flags) }
    })
}

pub(super) fn address_bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}
