"""A real node: containerd, kubelet, kube-proxy and CoreDNS beside a control plane.

All of it lives in the network and process namespaces of the test run, so that nothing of it is left
on the machine afterwards; ``make test-cluster`` makes them. Pods get addresses of a bridge, names
are resolved by CoreDNS, and services by kube-proxy's rules for iptables.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from control_plane import Cluster, process, wait
from node_images import PAUSE
from tools import folder, program

NAME = "node"
_ADDRESS, _DNS = "10.87.0.1", "10.96.0.10"
_PODS, _BRIDGE = "10.88.0.0/16", "cni0"
_PLUGINS = "/usr/lib/cni"
_NODES = "/api/v1/nodes"
_PROGRAMS = ("containerd", "runc", "iptables", "buildah", "mmdebstrap")
"""Debian's, beside the plugins of ``containernetworking-plugins``."""


def lacking() -> list[str]:
    """What this machine lacks for a node."""
    found = [name for name in _PROGRAMS if shutil.which(name) is None]
    if not Path(_PLUGINS, "bridge").is_file():
        found.append("containernetworking-plugins")
    if os.geteuid():
        found.append("root's rights")
    return found


@contextmanager
def node(cluster: Cluster, archives: Sequence[Path]) -> Iterator[None]:
    """A node that is ready and has the images of the archives, while the block runs."""
    where = cluster.folder / "node"
    where.mkdir()
    _network(where)
    with _containers(where, archives) as socket, _names(cluster), _kubelet(cluster, where, socket):
        proxy = where / "proxy.yaml"
        _write(
            proxy,
            {
                "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
                "kind": "KubeProxyConfiguration",
                "clientConnection": {"kubeconfig": str(cluster.kubeconfig)},
                "clusterCIDR": _PODS,
                "mode": "iptables",
                "hostnameOverride": NAME,
                "conntrack": {"maxPerCore": 0},
                "iptables": {"syncPeriod": "30s", "minSyncPeriod": "0s"},
            },
        )
        command = [program("kube-proxy"), f"--config={proxy}"]
        with process(cluster.folder, "kube-proxy", command):
            yield


def _network(where: Path) -> None:
    """The node's own address, and how pods get theirs."""
    for words in (
        ("ip", "link", "set", "lo", "up"),
        ("ip", "address", "add", f"{_ADDRESS}/32", "dev", "lo"),
        ("ip", "address", "add", f"{_DNS}/32", "dev", "lo"),
        ("ip", "route", "add", "default", "dev", "lo"),
    ):
        subprocess.run(words, check=True, capture_output=True)
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    (where / "cni").mkdir()
    bridge = {
        "type": "bridge",
        "bridge": _BRIDGE,
        "isGateway": True,
        "hairpinMode": True,
        "ipam": {
            "type": "host-local",
            "dataDir": str(where / "addresses"),
            "ranges": [[{"subnet": _PODS}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    }
    listed = {"cniVersion": "0.4.0", "name": "pods", "plugins": [bridge]}
    (where / "cni" / "10-pods.conflist").write_text(json.dumps(listed))


@contextmanager
def _containers(where: Path, archives: Sequence[Path]) -> Iterator[str]:
    """containerd with the images; its layers are kept between runs."""
    socket = where / "containerd.sock"
    config = where / "containerd.toml"
    config.write_text(
        f'''version = 2
root = "{folder() / "containerd"}"
state = "{where / "containerd"}"
[grpc]
address = "{socket}"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{PAUSE}"
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{_PLUGINS}"
conf_dir = "{where / "cni"}"
'''
    )
    with process(where.parent, "containerd", ["containerd", f"--config={config}"]):
        wait("containerd", lambda: not _ctr(socket, "version", check=False).returncode)
        for one in _ctr(
            socket, "containers", "list", "-q"
        ).stdout.split():  # of a run that was killed
            _ctr(socket, "containers", "delete", one)
        for archive in archives:
            _ctr(socket, "images", "import", str(archive))
        yield str(socket)


def _ctr(socket: Path, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    command = ["ctr", f"--address={socket}", "--namespace=k8s.io", *words]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if check and ran.returncode:
        raise AssertionError(f"{' '.join(command)}: {ran.stdout}{ran.stderr}")
    return ran


@contextmanager
def _names(cluster: Cluster) -> Iterator[None]:
    """CoreDNS at the address that pods ask."""
    file = cluster.folder / "Corefile"
    file.write_text(
        f"""cluster.local:53 {{
    bind {_DNS}
    errors
    kubernetes cluster.local {{
        kubeconfig {cluster.kubeconfig}
        ttl 5
    }}
}}
"""
    )
    with process(cluster.folder, "coredns", [program("coredns"), f"-conf={file}"]):
        yield


@contextmanager
def _kubelet(cluster: Cluster, where: Path, socket: str) -> Iterator[None]:
    config = where / "kubelet.yaml"
    resolver = where / "resolv.conf"
    resolver.write_text("")
    _write(
        config,
        {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": False},
                "x509": {"clientCAFile": str(cluster.folder / "ca.crt")},
            },
            "authorization": {"mode": "AlwaysAllow"},
            "cgroupDriver": "cgroupfs",
            "cgroupsPerQOS": False,
            "enforceNodeAllocatable": [],
            "failCgroupV1": False,
            "failSwapOn": False,
            "clusterDNS": [_DNS],
            "clusterDomain": "cluster.local",
            "containerRuntimeEndpoint": f"unix://{socket}",
            "evictionHard": {"memory.available": "100Mi"},
            "imageGCHighThresholdPercent": 100,
            "localStorageCapacityIsolation": False,
            "nodeStatusUpdateFrequency": "5s",
            "resolvConf": str(resolver),
            "podLogsDir": str(where / "logs"),
            "tlsCertFile": str(cluster.folder / "api.crt"),
            "tlsPrivateKeyFile": str(cluster.folder / "api.key"),
        },
    )
    command = [
        program("kubelet"),
        f"--config={config}",
        f"--kubeconfig={cluster.kubeconfig}",
        f"--root-dir={where / 'kubelet'}",
        f"--hostname-override={NAME}",
        f"--node-ip={_ADDRESS}",
        f"--cert-dir={where / 'certificates'}",
    ]
    with process(cluster.folder, "kubelet", command) as running:

        def ready() -> bool:
            if running.poll() is not None:
                log = (cluster.folder / "kubelet.log").read_text(errors="replace")
                raise AssertionError(f"the kubelet ended: {log[-3000:]}")
            found = cluster.find(f"{_NODES}/{NAME}") or {}
            shown = found.get("status", {}).get("conditions", ())
            return any(one["type"] == "Ready" and one["status"] == "True" for one in shown)

        wait("the node", ready)
        # Admission marks a new node as not ready; the controller that takes the mark away is off.
        cluster.change(f"{_NODES}/{NAME}", {"spec": {"taints": []}})
        yield


def _write(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(yaml.safe_dump(dict(content)))
