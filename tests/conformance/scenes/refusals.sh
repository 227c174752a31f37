#!/usr/bin/env bash
# A pod that the kubelet admits and the node cannot run: held, then failed, and the kubelet leaves it so. Sourced.
waits_because() { grep -q "$2" <<<"$(field pod "$1" '{.status.containerStatuses[0].state.waiting}')"; }
# does not fit: whatever is left, one more than that; the kubelet, which counts reserved CPUs too, has room.
left=$(($(answer 'len(a["cpus"])' topology) - 2))
pod too-big "$(exclusively $((left + 1)))"
soon "a pod that does not fit is not started" waits_because too-big CreateContainerError
holds "with the kubelet's reason" waits_because too-big UnexpectedAdmissionError
holds "and words" waits_because too-big "not enough cpus available to satisfy request"
soon "it is failed" is pod too-big '{.status.phase}' Failed
holds "with the kubelet's own reason" is pod too-big '{.status.reason}' UnexpectedAdmissionError
holds "and words" grep -q "not enough cpus available to satisfy request" <(field pod too-big '{.status.message}')
soon "an event tells of it" bash -c 'admin get events -A | grep -q too-big'
before=$(heartbeat)
within 60 told_again "$before" || true
sleep 15 # the kubelet looks at each pod every 5 s here
holds "the kubelet does not bring it back" is pod too-big '{.status.phase}' Failed
holds "nor loses the reason" is pod too-big '{.status.reason}' UnexpectedAdmissionError
holds "nothing of it runs" bash -c '[ -z "$0" ]' "$(process too-big || true)"
holds "the pod that was there before runs on" has 1 first
holds "it can be deleted" gone too-big

pod_text static "$(exclusively $((left + 1)))" kube-public | sed 's/"nodeName":"own",//' >/etc/kubernetes/manifests/static.json
mirror() { admin -n kube-public get pod static-own -o jsonpath="$1"; }
soon "a static pod that does not fit is not started" bash -c 'admin -n kube-public get pod static-own -o jsonpath="{.status.containerStatuses[0].state.waiting}" | grep -q UnexpectedAdmissionError'
sleep 25 # more than twice the time after which others are failed
holds "it is never failed" grep -qx Pending <(mirror '{.status.phase}')
rm /etc/kubernetes/manifests/static.json
mirror_gone() { ! mirror .; }
soon "its image goes with its file" mirror_gone
holds "a pod that runs can be deleted" gone first
soon "its CPUs are everybody's again" has "$all" best-effort
pod second "$(exclusively 1)"
soon "or those of the next one" runs second
holds "which has them for itself" has 1 second
soon "and nobody else" apart best-effort second
