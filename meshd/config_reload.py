"""What a changed configuration changes: at once, or at the next start. Pure."""

from __future__ import annotations

from dataclasses import replace

from meshd.config import SECTIONS, Config, settings_of


def reloaded(old: Config, new: Config) -> Config:
    """What is in force after a reload: ``new`` where that takes effect at once, ``old`` where it needs a restart."""
    sections = {}
    for name, kind in SECTIONS.items():
        section = getattr(new, name)
        at_once = {key: getattr(section, key) for key, (setting, _, _) in settings_of(kind).items() if setting.reload}
        sections[name] = replace(getattr(old, name), **at_once)
    return Config(**sections)


def changes_between(old: Config, new: Config) -> tuple[list[str], list[str]]:
    """Keys (``section.key``) that differ: those a reload puts in force, and those that need a restart."""
    at_once: list[str] = []
    at_restart: list[str] = []
    for section, kind in SECTIONS.items():
        for key, (setting, _, _) in settings_of(kind).items():
            if getattr(getattr(old, section), key) != getattr(getattr(new, section), key):
                (at_once if setting.reload else at_restart).append(f"{section}.{key}")
    return at_once, at_restart
