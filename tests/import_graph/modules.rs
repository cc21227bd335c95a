//! The modules of a crate, and which of them name what others declare.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::circles::Edges;
use super::tokens::{Token, tokens};
use crate::support::checkout;

/// A library or a program.
pub struct Target {
    pub name: String,
    pub root: PathBuf,
}

/// Those of every member of the workspace.
pub fn targets() -> Vec<Target> {
    let manifest = fs::read_to_string(checkout().join("Cargo.toml")).expect("a manifest");
    let manifest: toml::Table = manifest.parse().expect("a manifest in TOML");
    let members = manifest["workspace"]["members"].as_array().expect("members");
    let members = members.iter().map(|member| member.as_str().expect("a folder"));
    members
        .flat_map(|member| of_member(&checkout().join(member)))
        .collect()
}

fn of_member(folder: &Path) -> Vec<Target> {
    let manifest = fs::read_to_string(folder.join("Cargo.toml")).expect("a member's manifest");
    let manifest: toml::Table = manifest.parse().expect("a manifest in TOML");
    let package = manifest["package"]["name"].as_str().expect("a name");
    let mut targets = Vec::new();
    let mut add = |root: PathBuf, suffix: &str| {
        if root.is_file() {
            let name = format!("{package}{suffix}");
            targets.push(Target { name, root });
        }
    };
    add(folder.join("src/lib.rs"), "");
    add(folder.join("src/main.rs"), " (program)");
    for entry in fs::read_dir(folder.join("src/bin")).into_iter().flatten() {
        let path = entry.expect("an entry").path();
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let root = if path.is_dir() { path.join("main.rs") } else { path };
        add(root, &format!(" ({name})"));
    }
    targets
}

/// The names of a path, from the root of the crate on.
type Names = Vec<String>;

/// What a name that was imported stands for.
#[derive(Clone)]
struct Import {
    path: Names,
    is_public: bool,
}

/// One module: a file, or a part of one.
#[derive(Default)]
struct Module {
    /// That of the file.
    file: Names,
    children: BTreeSet<String>,
    declared: BTreeSet<String>,
    imports: BTreeMap<String, Import>,
    globs: Vec<Names>,
    /// Paths in code, as they are written.
    paths: Vec<Names>,
    /// All words in code outside of imports.
    words: BTreeSet<String>,
}

/// Where a path leads.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    Module(Names),
    /// Something that this module declares.
    Item(Names),
}

/// The modules of one crate.
#[derive(Default)]
pub struct Graph {
    modules: BTreeMap<Names, Module>,
    pub edges: Edges,
    /// The paths that make an edge.
    reasons: BTreeMap<(String, String), BTreeSet<String>>,
}

impl Graph {
    pub fn of(root: &Path) -> Self {
        let mut graph = Self::default();
        graph.read(root, root.parent().expect("a folder"), &[]);
        graph.connect();
        graph
    }

    /// Reads a file, whose children lie in `folder`.
    fn read(&mut self, file: &Path, folder: &Path, name: &[String]) {
        let source = fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        for child in self.take(&source, name) {
            let beneath = folder.join(child[name.len()..].join("/"));
            let file = beneath.with_extension("rs");
            let file = if file.is_file() {
                file
            } else {
                beneath.join("mod.rs")
            };
            self.read(&file, &beneath, &child);
        }
    }

    /// Takes up what a source says; answers the children that have files of their own.
    fn take(&mut self, source: &str, name: &[String]) -> Vec<Names> {
        let mut reader = Reader {
            tokens: tokens(source),
            at: 0,
            graph: self,
            file: name.to_vec(),
            children: Vec::new(),
        };
        reader.module(name.to_vec());
        reader.children
    }

    /// Follows a path that is written in `module`; none leads out of the crate or to a local name.
    fn find(&self, module: &Names, path: &[String], depth: usize) -> Option<Found> {
        let own = self.modules.get(module)?;
        let (first, rest) = path.split_first()?;
        let start = match first.as_str() {
            "crate" => Vec::new(),
            "self" => module.clone(),
            "super" => module.split_last()?.1.to_vec(),
            _ if own.children.contains(first) || own.imports.contains_key(first) => {
                return self.within(module, path, depth);
            }
            _ => return None,
        };
        let supers = rest.iter().take_while(|name| *name == "super").count();
        let start = start[..start.len().checked_sub(supers)?].to_vec();
        self.within(&start, &rest[supers..], depth)
    }

    /// Follows the rest of a path from a module on.
    fn within(&self, module: &Names, path: &[String], depth: usize) -> Option<Found> {
        let Some((first, rest)) = path.split_first() else {
            return Some(Found::Module(module.clone()));
        };
        let own = self.modules.get(module)?;
        if own.children.contains(first) {
            return self.within(&[&module[..], std::slice::from_ref(first)].concat(), rest, depth);
        }
        // Imports may lead to each other.
        if depth == 0 || own.declared.contains(first) {
            return Some(Found::Item(module.clone()));
        }
        if let Some(import) = own.imports.get(first) {
            let path = [&import.path, rest].concat();
            // The name itself may be a crate's or a child's of the same name.
            return (import.path[0] != *first || own.children.contains(first))
                .then(|| self.find(module, &path, depth - 1))?;
        }
        for glob in &own.globs {
            if let Some(Found::Module(of)) = self.find(module, glob, depth - 1)
                && of != *module
                && self.knows(&of, first, depth - 1)
            {
                return self.within(&of, path, depth - 1);
            }
        }
        Some(Found::Item(module.clone()))
    }

    /// Whether a glob of this module brings this name.
    fn knows(&self, module: &Names, name: &String, depth: usize) -> bool {
        let own = &self.modules[module];
        let brings = |glob: &Names| match self.find(module, glob, depth.saturating_sub(1)) {
            Some(Found::Module(of)) => of != *module && depth > 0 && self.knows(&of, name, depth - 1),
            _ => false,
        };
        own.declared.contains(name)
            || own.children.contains(name)
            || own.imports.contains_key(name)
            || own.globs.iter().any(brings)
    }

    fn connect(&mut self) {
        let (mut edges, mut reasons) = (Edges::new(), BTreeMap::<_, BTreeSet<_>>::new());
        for (name, module) in &self.modules {
            let Some(from) = label(&module.file) else {
                continue;
            };
            let reached = edges.entry(from.clone()).or_default();
            for (path, is_glob) in module.edges() {
                let file = match self.find(name, path, DEPTH_MAX) {
                    Some(Found::Item(of)) => &self.modules[&of].file,
                    Some(Found::Module(of)) if is_glob => &self.modules[&of].file,
                    _ => continue,
                };
                if let Some(to) = label(file).filter(|to| *to != from) {
                    reached.insert(to.clone());
                    let reasons = reasons.entry((from.clone(), to)).or_default();
                    reasons.insert(path.join("::"));
                }
            }
        }
        (self.edges, self.reasons) = (edges, reasons);
    }

    /// The edges among these files, each with the paths that make it.
    pub fn among(&self, files: &[String]) -> Vec<String> {
        let within = self
            .reasons
            .iter()
            .filter(|((from, to), _)| files.contains(from) && files.contains(to));
        let lines = within.map(|((from, to), reasons)| {
            let reasons: Vec<_> = reasons.iter().map(String::as_str).collect();
            format!("{from} -> {to}: {}", reasons.join(", "))
        });
        lines.collect()
    }
}

impl Module {
    /// The paths that count, and whether each is a glob.
    fn edges(&self) -> impl Iterator<Item = (&Names, bool)> {
        let imports = self.imports.iter();
        let used = imports.filter(|(name, import)| !import.is_public || self.words.contains(*name));
        let paths = used.map(|(_, import)| &import.path).chain(&self.paths);
        paths
            .map(|path| (path, false))
            .chain(self.globs.iter().map(|path| (path, true)))
    }
}

/// So many imports lead on to one another at most.
const DEPTH_MAX: usize = 16;

/// A file's name in the graph; the root has none.
fn label(name: &Names) -> Option<String> {
    (!name.is_empty()).then(|| name.join("::"))
}

/// Reads one file.
struct Reader<'a> {
    tokens: Vec<Token>,
    at: usize,
    graph: &'a mut Graph,
    file: Names,
    children: Vec<Names>,
}

impl Reader<'_> {
    fn peek(&self, ahead: usize) -> &str {
        self.tokens.get(self.at + ahead).map_or("", String::as_str)
    }

    fn before(&self, back: usize) -> &str {
        let at = self.at.checked_sub(back);
        at.map_or("", |at| self.tokens[at].as_str())
    }

    /// Reads up to the bracket that closes the module.
    fn module(&mut self, name: Names) {
        let mut module = Module {
            file: self.file.clone(),
            ..Module::default()
        };
        let mut depth = 0;
        while self.at < self.tokens.len() {
            let (word, next, third) = (self.peek(0).to_owned(), self.peek(1).to_owned(), self.peek(2));
            match word.as_str() {
                "{" => depth += 1,
                "}" if depth == 0 => break,
                "}" => depth -= 1,
                "mod" if third == ";" || third == "{" => {
                    let child = [&name[..], std::slice::from_ref(&next)].concat();
                    module.children.insert(next);
                    if third == ";" {
                        self.children.push(child);
                    } else {
                        self.at += 3;
                        self.module(child);
                    }
                    // On the name, or on the bracket that closes it.
                    self.at += usize::from(self.peek(0) == "mod");
                }
                "use" if next != "<" => {
                    let is_public = self.before(1) == "pub" || self.before(1) == ")";
                    self.at += 1;
                    self.import(&mut module, &[], is_public);
                    continue;
                }
                "fn" | "struct" | "enum" | "trait" | "type" | "const" | "static" | "union" if depth == 0 => {
                    let declared = if next == "mut" || next == "fn" || next == "unsafe" {
                        third.to_owned()
                    } else {
                        next
                    };
                    module.declared.insert(declared);
                }
                "macro_rules" => drop(module.declared.insert(third.to_owned())),
                _ if next == "::" && !matches!(self.before(1), "::" | ".") => {
                    let path = self.path();
                    module.words.extend(path.iter().cloned());
                    // `pub(in a::b)` says who may see, and names nothing.
                    if self.before(1) != "in" || self.before(2) != "(" {
                        module.paths.push(path);
                    }
                }
                _ => drop(module.words.insert(word)),
            }
            self.at += 1;
        }
        self.graph.modules.insert(name, module);
    }

    /// The names from here on that are joined by `::`; stays where it is.
    fn path(&self) -> Names {
        let mut path = vec![self.peek(0).to_owned()];
        let mut ahead = 1;
        while self.peek(ahead) == "::"
            && self
                .peek(ahead + 1)
                .starts_with(|c: char| c.is_alphabetic() || c == '_')
        {
            path.push(self.peek(ahead + 1).to_owned());
            ahead += 2;
        }
        path
    }

    /// Reads what is imported behind `prefix`, up to the sign that ends it.
    fn import(&mut self, module: &mut Module, prefix: &[String], is_public: bool) {
        let mut path = prefix.to_vec();
        let mut named = None;
        loop {
            let word = self.peek(0).to_owned();
            match word.as_str() {
                "" | ";" | "," | "}" => break,
                "::" => {}
                "{" => {
                    self.at += 1;
                    while !matches!(self.peek(0), "}" | "") {
                        self.import(module, &path, is_public);
                        self.at += usize::from(self.peek(0) == ",");
                    }
                    self.at += 1;
                    return;
                }
                "*" => {
                    module.globs.push(path);
                    self.at += 1;
                    return;
                }
                "as" => {
                    named = Some(self.peek(1).to_owned());
                    self.at += 1;
                }
                "self" if !path.is_empty() => {}
                _ => path.push(word),
            }
            self.at += 1;
        }
        let (Some(last), true) = (path.last(), path.len() > 1 || named.is_some()) else {
            return;
        };
        // A trait that is imported for its methods alone has no name, and there may be several.
        let name = match named {
            Some(name) if name == "_" => path.join("::"),
            Some(name) => name,
            None => last.clone(),
        };
        module.imports.insert(name, Import { path, is_public });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The edges among these sources, each with its name.
    fn edges(sources: &[(&str, &str)]) -> Vec<String> {
        let mut graph = Graph::default();
        for (name, source) in sources {
            let name: Names = name
                .split("::")
                .filter(|part| !part.is_empty())
                .map(str::to_owned)
                .collect();
            graph.take(source, &name);
        }
        graph.connect();
        let edges = graph.edges.iter();
        let edges = edges.flat_map(|(from, to)| to.iter().map(move |to| format!("{from} -> {to}")));
        edges.collect()
    }

    const ROOT: &str = "mod a; mod b; mod c; pub use a::Thing; pub use b::inner::Deep as Deeper;";
    const A: &str = "pub struct Thing; pub fn work() {}";
    const B: &str = "pub mod inner; pub use inner::{Deep, Other};";
    const INNER: &str = "pub struct Deep; pub struct Other;";

    fn of_c(c: &str) -> Vec<String> {
        edges(&[("", ROOT), ("a", A), ("b", B), ("b::inner", INNER), ("c", c)])
    }

    #[test]
    fn an_import_is_an_edge_to_the_file_that_declares_the_name() {
        assert_eq!(of_c("use crate::a::Thing;"), ["c -> a"]);
        assert_eq!(of_c("use super::a::{self, work as labour};"), ["c -> a"]);
        assert_eq!(of_c("use crate::Thing;"), ["c -> a"], "by the root");
        assert_eq!(of_c("use crate::b::Deep;"), ["c -> b::inner"], "by its parent");
        assert_eq!(of_c("use crate::Deeper as _;"), ["c -> b::inner"], "by both");
        assert_eq!(of_c("use std::a::Thing; use tokio::b;"), [""; 0]);
        assert_eq!(of_c("use crate::b::*;"), ["c -> b"]);
    }

    #[test]
    fn a_path_in_code_is_an_edge_and_a_module_that_is_only_imported_is_none() {
        assert_eq!(of_c("use crate::{a, b};"), [""; 0]);
        assert_eq!(of_c("use crate::{a, b}; fn f() { a::work(); }"), ["c -> a"]);
        assert_eq!(
            of_c("use crate::b; fn f(_: b::inner::Deep) {}"),
            ["c -> b::inner"]
        );
        assert_eq!(of_c("fn f() -> crate::Thing { x.collect::<a::B>() }"), ["c -> a"]);
        assert_eq!(of_c("pub(in crate::a) fn f() {}"), [""; 0]);
        assert_eq!(of_c("mod within { use super::super::a::work; }"), ["c -> a"]);
    }

    #[test]
    fn a_parent_depends_on_a_child_only_where_it_uses_one() {
        assert_eq!(of_c(""), [""; 0]);
        let with = |b| edges(&[("", ROOT), ("a", A), ("b", b), ("b::inner", INNER), ("c", "")]);
        assert_eq!(
            with("pub mod inner; pub(crate) use inner::Deep; struct X;"),
            [""; 0]
        );
        assert_eq!(
            with("pub mod inner; pub use inner::Deep; struct X(Deep);"),
            ["b -> b::inner"]
        );
        assert_eq!(with("pub mod inner; use inner::Deep;"), ["b -> b::inner"]);
        assert_eq!(with("pub mod inner; fn f() { inner::Deep; }"), ["b -> b::inner"]);
    }

    #[test]
    fn a_child_reaches_through_what_its_parent_imports() {
        let sources = [
            ("", ROOT),
            ("a", A),
            ("b", "pub mod inner; use crate::a::Thing; pub struct Own;"),
            ("b::inner", "use super::Thing; fn f(_: super::Own) {}"),
        ];
        assert_eq!(edges(&sources), ["b -> a", "b::inner -> a", "b::inner -> b"]);
    }
}
