//! What the topics hold, as other programs find it: as `deploy/asyncapi.yaml` promises it, and in order.

mod document;
mod relay;
mod schema;
mod topic;
