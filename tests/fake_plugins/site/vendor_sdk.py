"""Stands for a vendor's library, heavy and rude: whoever imports it in the app pays for it."""

raise ImportError("the vendor's library was imported")
