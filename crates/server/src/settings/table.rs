//! The one table of settings: how a key is declared, found and written down.
//!
//! A section is declared once, with `section!`; the struct that
//! the rest of the program reads, its defaults, the parser, the provenance, `config doc` and the
//! error texts all come from that declaration. A key that nothing declares is an error, so a typing
//! mistake can never become a silent default.

use super::kind::{Range, Raw};

/// One setting of the tree `T`.
pub struct Key<T: 'static> {
    /// Where it stands in the file, such as `heartbeat.interval`.
    pub path: &'static str,
    /// The default, written as it would be in the environment; empty for "not set".
    pub default: &'static str,
    /// What it does, its unit and what happens at its limit.
    pub help: &'static str,
    /// The kind of value, such as `duration`.
    pub kind: &'static str,
    /// An accepted value, as it is written in the file.
    pub example: &'static str,
    /// The smallest and largest accepted value, written like the default.
    pub range: Option<(&'static str, &'static str)>,
    /// Variables of the requirement documents that also set this key.
    pub documents: &'static [DocumentVariable],
    /// Whether a running server takes a new value on reload.
    pub reloadable: bool,
    /// Whether the value must never be shown; such a key also has a `…_file` twin.
    pub secret: bool,
    pub(super) set: Setter<T>,
    pub(super) show: fn(&T) -> serde_json::Value,
    pub(super) same: fn(&T, &T) -> bool,
    pub(super) keep: fn(&mut T, &T),
}

/// Reads a value into its place; the error says what was expected.
type Setter<T> = fn(&mut T, &Raw, Range<'_>) -> Result<(), String>;

/// A variable that the requirement documents name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DocumentVariable {
    /// The variable, such as `WS_HEARTBEAT_INTERVAL`.
    pub name: &'static str,
    /// The unit that the documents give its bare number, such as `s`.
    pub unit: &'static str,
}

impl<T> Key<T> {
    /// The variable that sets this key, such as `PULSEWIRE_HEARTBEAT_INTERVAL`.
    #[must_use]
    pub fn environment(&self) -> String {
        environment_name(self.path)
    }

    pub(super) const fn range(mut self, low: &'static str, high: &'static str) -> Self {
        self.range = Some((low, high));
        self
    }

    pub(super) const fn documents(mut self, variables: &'static [DocumentVariable]) -> Self {
        self.documents = variables;
        self
    }

    pub(super) const fn reloadable(mut self) -> Self {
        self.reloadable = true;
        self
    }

    pub(super) const fn secret(mut self) -> Self {
        self.secret = true;
        self
    }
}

impl<T> std::fmt::Debug for Key<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key").field("path", &self.path).finish_non_exhaustive()
    }
}

/// The environment's name of a path: `heartbeat.interval` is `PULSEWIRE_HEARTBEAT_INTERVAL`.
#[must_use]
pub fn environment_name(path: &str) -> String {
    format!("PULSEWIRE_{}", path.to_uppercase().replace('.', "_"))
}

/// A part of the tree `Root` that has its own keys.
pub(super) trait Section<Root: 'static>: Sized {
    /// What the section is about, for `config doc`.
    const ABOUT: &'static str;
    /// Its keys, in the order of the documentation.
    const KEYS: &'static [Key<Root>];
    /// The section inside its tree.
    fn of(root: &Root) -> &Self;
    /// The section inside its tree, to be changed.
    fn of_mut(root: &mut Root) -> &mut Self;
}

/// The name of a key: its field's, or another where that is a word of Rust or would say too little there.
macro_rules! key_name {
    ($field:ident) => {
        stringify!($field)
    };
    ($field:ident $key:literal) => {
        $key
    };
}
pub(super) use key_name;

/// Declares one section: a struct, its defaults and its keys.
macro_rules! section {
    (
        $(#[doc = $about:literal])+
        $root:ty => $name:ident $prefix:literal |$it:ident| $place:expr;
        $( $(#[doc = $help:literal])+ $field:ident $(as $key:literal)? : $kind:ty = $default:literal $(, $with:ident ( $($arg:expr),* ))* ; )+
    ) => {
        $(#[doc = $about])+
        #[derive(Debug, Clone, PartialEq)]
        pub struct $name {
            $( $(#[doc = $help])+ pub $field: <$kind as $crate::settings::kind::Kind>::Value, )+
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $( $field: $crate::settings::kind::default_of::<$kind>($default), )+ }
            }
        }

        impl $crate::settings::table::Section<$root> for $name {
            const ABOUT: &'static str = concat!($($about, "\n"),+);
            const KEYS: &'static [$crate::settings::table::Key<$root>] = &[
                $( $crate::settings::table::Key::<$root> {
                    path: concat!($prefix, $crate::settings::table::key_name!($field $($key)?)),
                    default: $default,
                    help: concat!($($help),+),
                    kind: <$kind as $crate::settings::kind::Kind>::NAME,
                    example: <$kind as $crate::settings::kind::Kind>::EXAMPLE,
                    range: None,
                    documents: &[],
                    reloadable: false,
                    secret: false,
                    set: |root, raw, range| {
                        let value = <$kind as $crate::settings::kind::Kind>::read(raw, range)?;
                        <$name as $crate::settings::table::Section<$root>>::of_mut(root).$field = value;
                        Ok(())
                    },
                    show: |root| {
                        let section = <$name as $crate::settings::table::Section<$root>>::of(root);
                        <$kind as $crate::settings::kind::Kind>::show(&section.$field)
                    },
                    same: |one, two| {
                        let field = |root| &<$name as $crate::settings::table::Section<$root>>::of(root).$field;
                        field(one) == field(two)
                    },
                    keep: |root, from| {
                        let kept = &<$name as $crate::settings::table::Section<$root>>::of(from).$field;
                        <$name as $crate::settings::table::Section<$root>>::of_mut(root).$field.clone_from(kept);
                    },
                } $(.$with($($arg),*))*, )+
            ];
            fn of($it: &$root) -> &Self { &$place }
            fn of_mut($it: &mut $root) -> &mut Self { &mut $place }
        }
    };
}
pub(super) use section;
