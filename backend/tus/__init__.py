"""Uploads that survive: the tus 1.0.0 protocol, with all of its state on disk.

Written here, since the kept server library for FastAPI (tuspyserver 4.4.3, read in full) has no checksum extension,
writes on the event loop, puts file names into its log, and corrupts an upload whose server is killed: it opens the
file for appending while the offset it kept is older than the bytes that the kill left behind.

Many small files travel in packs (``pack``), so that 10,000 images take some dozens of requests and not 20,000.
"""
