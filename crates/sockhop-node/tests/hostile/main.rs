//! Everything that broke the servers of this field, thrown at the real binary: the corpus of
//! `tests/hostile/corpus` and the matrix of session states and inputs.

mod abuse;
mod attack;
mod corpus;
mod descriptors;
mod document;
mod faults;
mod inputs;
mod matrix;
mod peer;
mod process;
mod scene;
mod script;
