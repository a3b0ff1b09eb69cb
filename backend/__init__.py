"""The server of WaRA Studio: HTTP, database, storage, jobs and serving over the library ``wara``."""
