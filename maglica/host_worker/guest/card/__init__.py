"""The address of one network card of several: its entry is changed in place, all others stay as they are."""

from maglica.host_worker.guest.card import ifcfg, ifupdown, keyfile, netplan, networkd

__all__ = ["ifcfg", "ifupdown", "keyfile", "netplan", "networkd"]
