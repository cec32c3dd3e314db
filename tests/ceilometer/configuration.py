"""Reads configuration files as oslo.config does.

read        options and cases in, each option's value in each case out
registered  the options that the installed packages register, as [section, name]
time FILE   seconds that it takes to read a file, the best of five
"""
import importlib.metadata
import json
import logging
import os
import sys
import time
import warnings

from oslo_config import cfg

warnings.simplefilter("ignore")
logging.disable(logging.CRITICAL)
NUMBERS = {"int": cfg.IntOpt, "float": cfg.FloatOpt}
OTHERS = {"text": cfg.StrOpt, "bool": cfg.BoolOpt, "list": cfg.ListOpt, "multi": cfg.MultiStrOpt}


def section(name):
    return None if name == "DEFAULT" else name


def option(spec):
    kind = spec["kind"]
    deprecated = [cfg.DeprecatedOpt(name, group=group) for group, name in spec["deprecated"]]
    if kind in NUMBERS:
        made = NUMBERS[kind](spec["name"], min=spec["least"], max=spec["most"], deprecated_opts=deprecated)
    else:
        made = OTHERS[kind](spec["name"], deprecated_opts=deprecated)
    text = spec["default"]
    if kind == "multi":
        made.default = [text] if text else []
    elif kind in ("bool", "int", "float"):
        made.default = made.type(text)
    elif kind == "list":
        made.default = made.type(text) if text else []
    else:
        made.default = text
    return made


def value(conf, spec):
    group = section(spec["group"])
    try:
        found = conf[spec["name"]] if group is None else conf[group][spec["name"]]
        where = conf.get_location(spec["name"], group)
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}
    is_set = where is not None and where.location in (cfg.Locations.user, cfg.Locations.environment)
    return {"value": found} if is_set else {}


def read_case(options, case):
    conf = cfg.ConfigOpts()
    for spec in options:
        conf.register_opt(option(spec), group=section(spec["group"]))
    arguments = [word for file in case["files"] for word in ("--config-file", file)]
    os.environ.update(case["environment"])
    try:
        conf(args=arguments, project="ha", default_config_files=[], default_config_dirs=[], use_env=True)
        return {f"{spec['group']}.{spec['name']}": value(conf, spec) for spec in options}
    except cfg.ConfigFileParseError as error:
        return {"parse_error": str(error)}
    finally:
        for name in case["environment"]:
            del os.environ[name]


def registered():
    for entry in importlib.metadata.entry_points(group="oslo.config.opts"):
        for group, options in entry.load()():
            group = getattr(group, "name", group) or "DEFAULT"
            for one in options:
                yield group, one.dest
                for old in one.deprecated_opts:
                    yield old.group or group, (old.name or one.dest).replace("-", "_")


def seconds(file):
    """Parsing alone, which is less than we do: no value is looked at."""
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        conf = cfg.ConfigOpts()
        conf(args=["--config-file", file], project="ha", default_config_files=[], default_config_dirs=[])
        best = min(best, time.perf_counter() - start)
    return best


def main():
    verb = sys.argv[1]
    if verb == "read":
        asked = json.load(sys.stdin)
        answer = [read_case(asked["options"], case) for case in asked["cases"]]
    elif verb == "registered":
        answer = sorted(set(registered()))
    else:
        answer = seconds(sys.argv[2])
    json.dump(answer, sys.stdout)


main()
