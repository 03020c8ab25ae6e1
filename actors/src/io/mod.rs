//! Adapters to the outside: HTTP client, sockets, TLS. Assembly builds them inside the arbiter that uses them.
