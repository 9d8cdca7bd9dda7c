//! The bus on real Redis servers, which each test starts for itself.

mod faults;
mod groups;
mod logins;
mod single;
mod support;
