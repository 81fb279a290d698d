"""Unites the C++ files of folders in a few, because a file costs what its headers cost.

    python tools/unite_sources.py FOLDER...

Every `NAME.cpp` becomes `NAME.cpp.inc`, and a few new `united_N.cpp` include them all.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

UNITS = 4
"""A folder gets so many files, so that several cores have work, or more where names clash."""

COMMENT = re.compile(r'//[^\n]*|/\*.*?\*/', re.DOTALL)
MACRO = re.compile(r'^[ \t]*#[ \t]*define[ \t]+(\w+)', re.MULTILINE)
TYPE = re.compile(r'^(?:struct|class|enum|using(?= namespace|\s+\w+\s*=))\s+(\w+)', re.MULTILINE)
FUNCTION = re.compile(r'^[A-Za-z_][\w:<>,&*\s]*[\s&*>](\w+)\s*\([^;{]*\)[\w\s]*\{', re.MULTILINE)


@dataclass
class Unit:
    """A file that includes others. Two that define the same name never meet in one."""

    lines: list[str] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    size: int = 0


def unite(folder: Path) -> int:
    """Unite the C++ files of a folder and return how many there are now."""
    code = {path: COMMENT.sub('', path.read_text('utf-8')) for path in folder.glob('*.cpp')}
    units = [Unit() for _ in range(UNITS)]
    for path in sorted(code, key=lambda path: (-len(code[path]), path)):
        macros = set(MACRO.findall(code[path]))
        # `using namespace` counts as a name as well: it would change what comes behind it.
        names = set(TYPE.findall(code[path])) | set(FUNCTION.findall(code[path]))
        fitting = [unit for unit in units if not unit.names & names]
        if not fitting:
            units.append(Unit())
            fitting = units[-1:]
        unit = min(fitting, key=lambda unit: unit.size)
        included = path.rename(path.with_name(f'{path.name}.inc'))
        lines = [f'#include "{included.name}"', *(f'#undef {name}' for name in sorted(macros))]
        unit.lines = [*unit.lines, *lines] if 'namespace' in names else [*lines, *unit.lines]
        unit.names |= names
        unit.size += len(code[path])
    units = [unit for unit in units if unit.lines]
    for number, unit in enumerate(units):
        (folder / f'united_{number}.cpp').write_text('\n'.join([*unit.lines, '']))
    return len(units)


if __name__ == '__main__':
    for argument in sys.argv[1:]:
        print(f'unite_sources: {unite(Path(argument))} files in {argument}')
