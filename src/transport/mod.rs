//! The border with other providers: TLS and SMTP, in both roles.

pub mod smtp;
