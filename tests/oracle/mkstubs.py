"""Lets PyPI's CUDA build of torch run without CUDA: writes a tiny stand-in for every CUDA library that torch
links against and that is not there. A call into one says "no device".

    python mkstubs.py SITE_PACKAGES/torch/lib

The stand-ins are written into that folder, where torch looks for libraries anyway. Each carries the symbol
versions torch asks for; without them the loader refuses it. Needs gcc, readelf and nm.
"""

import collections
import os
import pathlib
import re
import subprocess
import sys

LIBRARY = re.compile(r"lib(cu|nccl|nvshmem|nvrtc|nvJit)")
SYMBOL = re.compile(r"(cu|nccl|nvrtc|nvshmem|__cuda|__nv|nvJitLink|CUPTI|cupti)")
NO_DEVICE = 100  # cudaErrorNoDevice


def output(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def survey(libraries):
    """What the libraries need: sonames, the versions wanted of each, and the undefined symbols with their version."""
    sonames, versions, undefined, defined = set(), collections.defaultdict(set), {}, set()
    for library in libraries:
        sonames |= set(re.findall(r"NEEDED.*\[(.*?)\]", output("readelf", "-d", library)))
        soname = None
        for line in output("readelf", "-V", "-W", library).splitlines():
            if found := re.search(r"File: (\S+)", line):
                soname = found[1]
            if soname and (found := re.search(r"Name: (\S+)\s+Flags", line)):
                versions[soname].add(found[1])
        for line in output("nm", "-D", library).splitlines():
            kind, symbol = line.split()[-2:]
            name, _, version = symbol.partition("@")
            if kind in ("U", "w", "v"):
                undefined[name] = version.lstrip("@") or undefined.get(name, "")
            else:
                defined.add(name)
    return sonames, versions, {name: version for name, version in undefined.items() if name not in defined}


def body(name):
    """A C definition of one stand-in function; nobody calls it with the right types, so none are declared."""
    if re.search(r"Get(Error|Status)?(String|Name)|ErrorString|ErrorName", name):
        return f'const char *{name}() {{ return "no CUDA (stand-in)"; }}'
    if name == "__cudaRegisterFatBinary":
        return f"static void *handle[8]; void **{name}() {{ return handle; }}"
    if name.startswith(("__cudaRegister", "__cudaUnregister")):
        return f"void {name}() {{}}"
    if name == "cudaGetDeviceCount":
        return f"int {name}(int *n) {{ if (n) *n = 0; return {NO_DEVICE}; }}"
    if name == "__cudaInitModule":
        return f"char {name}() {{ return 0; }}"
    return f"int {name}() {{ return {NO_DEVICE}; }}"


def compile_library(folder, soname, symbols, versions):
    """One shared library. Complete or absent: it is compiled beside its place and renamed."""
    source, script, beside = (folder / f".{soname}.{end}" for end in ("c", "map", "part"))
    source.write_text("".join(body(name) + "\n" for names in symbols.values() for name in names))
    command = ["gcc", "-shared", "-fPIC", "-w", "-fno-builtin", "-O1", f"-Wl,-soname,{soname}", "-o", beside, source]
    if versions:
        exported = {v: " ".join(f"{name};" for name in symbols.get(v, ())) or "none_;" for v in sorted(versions)}
        script.write_text("".join(f"{version} {{ global: {names} }};\n" for version, names in exported.items()))
        command.append(f"-Wl,--version-script={script}")
    subprocess.run(command, check=True)
    os.replace(beside, folder / soname)
    source.unlink()
    script.unlink(missing_ok=True)


def main():
    folder = pathlib.Path(sys.argv[1])
    libraries = [path for path in folder.iterdir() if ".so" in path.name and not path.name.startswith(".")]
    sonames, versions, undefined = survey(libraries)
    missing = sorted(n for n in sonames - {path.name for path in libraries} if LIBRARY.match(n))
    if not missing:
        return
    owner = {version: soname for soname in missing for version in versions[soname]}
    runtime = next((n for n in missing if n.startswith("libcudart.")), missing[0])  # home of unversioned symbols
    symbols = collections.defaultdict(lambda: collections.defaultdict(list))
    for name, version in undefined.items():
        if SYMBOL.match(name):
            symbols[owner.get(version, runtime)][version if version in owner else ""].append(name)
    for soname in missing:
        compile_library(folder, soname, symbols[soname], versions[soname])
    print(f"{len(missing)} CUDA libraries stood in for: {' '.join(missing)}")


if __name__ == "__main__":
    main()
