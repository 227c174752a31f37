#!/usr/bin/env bash
# One agent takes the Lease and counts how the nodes of a profile stand. It begins minutes after a change. Sourced.
counted() { is nodeprofile conformance '{.status.countedBy}' own; }
if within 420 counted; then
  pass "the nodes of the profile are counted"
  holds "by who holds the Lease" grep -qx own <(admin -n trimtab-system get lease trimtab-status -o jsonpath='{.spec.holderIdentity}')
  holds "it is one" is nodeprofile conformance '{.status.nodes}' 1
  holds "and rolled out" is nodeprofile conformance '{.status.conditions[?(@.type=="RolledOut")].status}' True
else
  fail "the nodes of the profile are counted" "not within 7 minutes: $(field nodeprofile conformance '{.status}')"
fi
