//! The paths in a package's source: which file names which module.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// A path from one file into another of the same package.
pub(crate) struct Reference {
    /// The module whose file has the path: `analyse::fold`, and nothing for `lib.rs`.
    pub(crate) module: String,
    pub(crate) line: usize,
    /// The module that the path leads to, through re-exports.
    pub(crate) target: String,
    /// As it is written, from the crate's root.
    pub(crate) path: String,
}

/// The library target of a package.
pub(crate) struct Package {
    files: BTreeMap<String, PathBuf>,
    references: Vec<Reference>,
    crates: Vec<(String, usize, String)>,
}

type Segments = Vec<String>;

/// What a first reading of all files finds.
#[derive(Default)]
struct Names {
    /// Modules with a file, as paths from the root.
    modules: BTreeSet<Segments>,
    /// Those declared under `#[cfg(test)]`.
    tests: BTreeSet<Segments>,
    /// What a `use` calls a path, by the module that has the `use`.
    imported: BTreeMap<(Segments, String), Segments>,
    dependencies: BTreeSet<String>,
}

impl Package {
    /// Reads `src` of the package in this folder, but for its binaries.
    pub(crate) fn read(folder: &Path) -> Package {
        let mut files = BTreeMap::new();
        modules_in(&folder.join("src"), &[], &mut files);
        let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).expect("the package has a manifest");
        let manifest: toml::Table = manifest.parse().expect("the manifest is TOML");
        let dependencies =
            manifest["dependencies"].as_table().expect("a table").keys().map(|name| name.replace('-', "_"));
        let mut names = Names {
            modules: files.keys().cloned().collect(),
            dependencies: dependencies.collect(),
            ..Names::default()
        };
        let texts: Vec<(Segments, TokenStream)> = files
            .iter()
            .map(|(module, file)| {
                let text = std::fs::read_to_string(file).expect("a source file is text");
                (module.clone(), text.parse().unwrap_or_else(|error| panic!("{}: {error}", file.display())))
            })
            .collect();
        for (module, tokens) in &texts {
            let mut found = Found::default();
            walk(tokens.clone(), module, &names, &mut found);
            names.imported.extend(found.imported);
            names.tests.extend(found.tests);
        }
        let relative = |file: &Path| file.strip_prefix(folder).expect("a file of the package").to_owned();
        let mut package = Package {
            files: files.iter().map(|(module, file)| (module.join("::"), relative(file))).collect(),
            references: Vec::new(),
            crates: Vec::new(),
        };
        for (module, tokens) in texts {
            let test = (1..=module.len()).any(|length| names.tests.contains(&module[..length]));
            if test {
                package.files.remove(&module.join("::"));
                continue;
            }
            let mut found = Found::default();
            walk(tokens, &module, &names, &mut found);
            let name = module.join("::");
            for (line, path) in found.paths {
                let target = names.leads_to(&path).join("::");
                if target != name {
                    let path = format!("crate::{}", path.join("::"));
                    package.references.push(Reference { module: name.clone(), line, target, path });
                }
            }
            package.crates.extend(found.crates.into_iter().map(|(line, crate_name)| (name.clone(), line, crate_name)));
        }
        package
    }

    /// Every module with a file of its own, tests left out.
    pub(crate) fn modules(&self) -> impl Iterator<Item = &String> {
        self.files.keys()
    }

    /// The module's file, from the package's folder.
    pub(crate) fn file(&self, module: &str) -> &Path {
        &self.files[module]
    }

    pub(crate) fn references(&self) -> &[Reference] {
        &self.references
    }

    /// Dependencies that are named: in which module, on which line, which.
    pub(crate) fn crates(&self) -> &[(String, usize, String)] {
        &self.crates
    }
}

fn modules_in(folder: &Path, parent: &[String], files: &mut BTreeMap<Segments, PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a source folder").flatten() {
        let path = entry.path();
        let name = path.file_stem().expect("a file has a name").to_string_lossy().into_owned();
        if parent.is_empty() && (name == "bin" || name == "main") {
            continue;
        }
        let module = [parent, &[name]].concat();
        if path.is_dir() {
            modules_in(&path, &module, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let root = module == ["lib"];
            files.insert(if root { Vec::new() } else { module }, path);
        }
    }
}

impl Names {
    /// The module with a file that has what the path names, or is it.
    fn leads_to(&self, path: &[String]) -> Segments {
        let mut path = path.to_vec();
        // Re-exports of re-exports end sooner.
        for _ in 0..16 {
            let length = (0..=path.len()).rev().find(|length| *length == 0 || self.modules.contains(&path[..*length]));
            let length = length.expect("the root is a module");
            let (module, rest) = (path[..length].to_vec(), path[length..].to_vec());
            let Some((name, rest)) = rest.split_first() else { return module };
            match self.imported.get(&(module.clone(), name.clone())) {
                Some(target) if *target != path => path = [&target[..], rest].concat(),
                _ => return module,
            }
        }
        panic!("{path:?} is re-exported in a circle");
    }

    /// What the first name of a path stands for in this module, if it is of this package.
    fn local(&self, module: &[String], name: &str) -> Option<Segments> {
        let child = [module, &[name.to_owned()]].concat();
        if self.modules.contains(&child) {
            return Some(child);
        }
        self.imported.get(&(module.to_vec(), name.to_owned())).cloned()
    }
}

/// What one file has.
#[derive(Default)]
struct Found {
    paths: Vec<(usize, Segments)>,
    crates: Vec<(usize, String)>,
    imported: BTreeMap<(Segments, String), Segments>,
    tests: BTreeSet<Segments>,
}

fn is_punct(token: Option<&TokenTree>, wanted: char) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == wanted)
}

fn is_ident(token: Option<&TokenTree>, wanted: &str) -> bool {
    matches!(token, Some(TokenTree::Ident(ident)) if ident == wanted)
}

/// `::` at `at`.
fn is_path(tokens: &[TokenTree], at: usize) -> bool {
    is_punct(tokens.get(at), ':') && is_punct(tokens.get(at + 1), ':')
}

fn walk(tokens: TokenStream, module: &[String], names: &Names, found: &mut Found) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let mut at = 0;
    let mut test = false;
    while at < tokens.len() {
        let next = tokens.get(at + 1);
        match &tokens[at] {
            TokenTree::Punct(punct) if punct.as_char() == '#' && matches!(next, Some(TokenTree::Group(_))) => {
                test |= next.is_some_and(|attribute| attribute.to_string().replace(' ', "") == "[cfg(test)]");
                at += 2;
            }
            _ if test => {
                test = false;
                at = item(&tokens, at, module, found);
            }
            TokenTree::Ident(word) if word == "pub" => {
                let limited =
                    matches!(next, Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Parenthesis);
                at += 1 + usize::from(limited);
            }
            TokenTree::Ident(word) if word == "mod" => match (next, tokens.get(at + 2)) {
                (Some(TokenTree::Ident(name)), Some(TokenTree::Group(body))) => {
                    walk(body.stream(), &[module, &[name.to_string()]].concat(), names, found);
                    at += 3;
                }
                _ => at += 1,
            },
            TokenTree::Ident(word) => {
                let import = at > 0 && (word == "use" || is_ident(tokens.get(at - 1), "use"));
                let named = at >= 2 && is_path(&tokens, at - 2);
                at = if named { at + 1 } else { path(&tokens, at, import, module, names, found) };
            }
            TokenTree::Group(group) => {
                walk(group.stream(), module, names, found);
                at += 1;
            }
            _ => at += 1,
        }
    }
}

/// Past an item that tests alone have; a file it declares is noted.
fn item(tokens: &[TokenTree], mut at: usize, module: &[String], found: &mut Found) -> usize {
    while let Some(token) = tokens.get(at) {
        if is_ident(Some(token), "mod")
            && let Some(TokenTree::Ident(name)) = tokens.get(at + 1)
        {
            found.tests.insert([module, &[name.to_string()]].concat());
        }
        let braces = matches!(token, TokenTree::Group(group) if group.delimiter() == Delimiter::Brace);
        let tree = at >= 2 && is_path(tokens, at - 2) || at >= 1 && is_ident(tokens.get(at - 1), "use");
        at += 1;
        if is_punct(Some(token), ';') || braces && !tree {
            break;
        }
    }
    at
}

/// A path that may begin at `at`; where to go on.
fn path(tokens: &[TokenTree], at: usize, import: bool, module: &[String], names: &Names, found: &mut Found) -> usize {
    let TokenTree::Ident(first) = &tokens[at] else { return at + 1 };
    if !is_path(tokens, at + 1) {
        return at + 1;
    }
    let (mut base, mut next) = match first.to_string().as_str() {
        "crate" => (Vec::new(), at + 3),
        "self" => (module.to_vec(), at + 3),
        "super" => (module[..module.len().saturating_sub(1)].to_vec(), at + 3),
        name => match names.local(module, name) {
            Some(base) => (base, at + 3),
            None => {
                if names.dependencies.contains(name) {
                    found.crates.push((first.span().start().line, name.to_owned()));
                }
                return at + 3;
            }
        },
    };
    while is_ident(tokens.get(next), "super") && is_path(tokens, next + 1) {
        base.pop();
        next += 3;
    }
    tree(tokens, next, &base, &mut |line, path, name| {
        if import && let Some(name) = name {
            found.imported.insert((module.to_vec(), name), path.clone());
        }
        found.paths.push((line, path));
    })
}

/// Every leaf of a path or of a tree of them: its line, its path and the name that a `use` gives it.
fn tree(
    tokens: &[TokenTree],
    at: usize,
    base: &[String],
    leaf: &mut impl FnMut(usize, Segments, Option<String>),
) -> usize {
    match tokens.get(at) {
        Some(TokenTree::Ident(ident)) => {
            let line = ident.span().start().line;
            let own = ident == "self";
            let path = if own { base.to_vec() } else { [base, &[ident.to_string()]].concat() };
            let goes_on = is_path(tokens, at + 1) && !is_punct(tokens.get(at + 3), '<');
            if goes_on {
                return tree(tokens, at + 3, &path, leaf);
            }
            match (tokens.get(at + 1), tokens.get(at + 2)) {
                (Some(TokenTree::Ident(word)), Some(TokenTree::Ident(name))) if word == "as" => {
                    leaf(line, path, Some(name.to_string()));
                    at + 3
                }
                _ => {
                    let name = path.last().cloned();
                    leaf(line, path, name);
                    at + 1
                }
            }
        }
        Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
            let inner: Vec<TokenTree> = group.stream().into_iter().collect();
            let mut next = 0;
            while next < inner.len() {
                next = if is_punct(inner.get(next), ',') { next + 1 } else { tree(&inner, next, base, leaf) };
            }
            at + 1
        }
        Some(star) => {
            leaf(star.span().start().line, base.to_vec(), None);
            at + 1
        }
        None => at,
    }
}
