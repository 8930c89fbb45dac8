"""Licences and duplicates of all that a build takes in: cargo metadata --locked --all-features --format-version 1 | python3 .ci/dependencies.py

Fails at a licence that a product under MIT or Apache-2.0 cannot carry, and at a crate in two versions that is not known here.
"""
import collections
import json
import re
import sys

PERMISSIVE = {
    "0BSD", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0",
    "CDLA-Permissive-2.0", "ISC", "MIT", "MIT-0", "Unicode-3.0", "Unlicense", "Zlib",
}  # fmt: skip

# Crates in two versions, and who holds the older one back.
TWICE = {
    "base64": "tokenizers",
    "bit-set": "fancy-regex of tokenizers",
    "bit-vec": "fancy-regex of tokenizers",
    "crypto-common": "as digest",
    "digest": "crc-fast of object_store",
    "getrandom": "ahash of tokenizers, rand_core",
    "hashbrown": "safetensors, gpu-allocator of wgpu",
    "itertools": "tokenizers",
    "libloading": "ash of wgpu",
    "miniz_oxide": "png of image",
    "rand": "tokenizers",
    "r-efi": "the two of getrandom, on UEFI",
    "rand_core": "rand 0.9",
    "thiserror": "sysctl of gemm, on macOS",
    "thiserror-impl": "as thiserror",
    "syn": "derive macros that have not moved to syn 3",
}


def carried(licence):
    """Whether an SPDX expression can be met by permissive licences alone."""
    text = licence.replace("/", " OR ").strip()
    outer = re.fullmatch(r"\(([^()]*)\) AND (.*)", text)
    if outer:
        return carried(outer[1]) and carried(outer[2])
    if " OR " in text:
        return any(carried(part) for part in text.split(" OR "))
    return all(part.strip() in PERMISSIVE for part in text.split(" AND "))


assert carried("MIT/Apache-2.0") and carried("(MIT OR Apache-2.0) AND Unicode-3.0") and carried("GPL-3.0 OR MIT")
assert not carried("GPL-3.0") and not carried("MIT AND GPL-3.0") and not carried("(MIT OR Apache-2.0) AND MPL-2.0") and not carried("")

metadata = json.load(sys.stdin)
packages = {package["id"]: package for package in metadata["packages"]}
nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}

# What the build links or runs: normal and build dependencies of these packages, the wheel's too, on every platform.
reached, todo = set(), list(metadata["workspace_members"])
while todo:
    one = todo.pop()
    if one in reached:
        continue
    reached.add(one)
    todo += [dep["pkg"] for dep in nodes[one]["deps"] if any(kind["kind"] in (None, "build") for kind in dep["dep_kinds"])]

faults = []
versions = collections.defaultdict(set)
for package in (packages[one] for one in sorted(reached)):
    versions[package["name"]].add(package["version"])
    if not carried(package["license"] or ""):
        faults.append(f"{package['name']} {package['version']}: licence {package['license']!r}")
twice = {name: sorted(found) for name, found in versions.items() if len(found) > 1}
for name, found in twice.items():
    if name not in TWICE and not name.startswith("windows"):  # not built here
        faults.append(f"{name} is there as {', '.join(found)}: have one, or write down who needs two")
faults += [f"{name} is there once, and TWICE still excuses it" for name in TWICE if name not in twice]
print(f"{len(reached)} crates on all platforms, every licence can be met permissively; in two versions: {', '.join(twice)}" if not faults else "\n".join(faults))
sys.exit(bool(faults))
