//! One app of this crate and of other crates for Rocket, with a test for each; and the pages of the manual whose examples
//! need such crates.

#[cfg(test)]
mod app;
#[cfg(test)]
mod tests;

#[cfg(doctest)]
mod manual {
    #[doc = include_str!("../../../docs/manual/cors.md")]
    mod cors {}
    #[doc = include_str!("../../../docs/manual/graphql.md")]
    mod graphql {}
    #[doc = include_str!("../../../docs/manual/openapi.md")]
    mod openapi {}
    #[doc = include_str!("../../../docs/manual/websockets.md")]
    mod websockets {}
}
