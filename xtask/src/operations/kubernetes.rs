//! Manifests, by `kubectl kustomize` and the schemas of Kubernetes.
//!
//! Kinds of operators (Prometheus, Argo, Flagger), and what manifests say of each other and of the server, are looked
//! at by `deploy/checks/test/kubernetes.test.ts`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use super::{Check, Pack};
use crate::steps::quietly;

pub(super) const CHECKS: [Check; 1] = [Check { name: "manifests", tools: &["kubectl"], run: manifests }];

/// Folders with an overlay in each folder of theirs that has a `kustomization.yaml`.
const ROOTS: [&str; 3] = ["deploy/kubernetes", "deploy/kubernetes/overlays", "deploy/canary"];
/// The oldest that takes `preStop.sleep` by default, the oldest that is supported, and the newest whose schemas are here.
const VERSIONS: [&str; 3] = ["1.30", "1.34", "1.37"];
/// What no version may take: a text for a number, and a key that is misspelt.
const BROKEN: [&str; 2] = [
    "{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {terminationGracePeriodSeconds: \"90\", containers: []}}",
    "{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {selectors: {}}}",
];

/// Renders every overlay, and holds what Kubernetes itself understands of it to the schemas of three versions.
fn manifests(pack: &Pack<'_>) -> Result<String> {
    let folder = pack.programs.parent().context("the programs have no folder")?.join("operations");
    fs::create_dir_all(&folder).context("cannot make a folder for what is rendered")?;
    let overlays = overlays(pack)?;
    ensure!(!overlays.is_empty(), "there is no overlay");
    let mut core = BTreeSet::new();
    for overlay in &overlays {
        let rendered = render(pack, overlay)?;
        core.extend(rendered.split("\n---\n").filter(|manifest| is_core(manifest)).map(str::to_owned));
    }
    let file = folder.join("manifests.yaml");
    fs::write(&file, Vec::from_iter(core.iter().map(String::as_str)).join("\n---\n"))
        .context("cannot keep what was rendered")?;
    for version in VERSIONS {
        validate(pack, version, &file)?;
    }
    let broken = folder.join("broken.yaml");
    for manifest in BROKEN {
        fs::write(&broken, manifest).context("cannot write a broken manifest")?;
        ensure!(validate(pack, VERSIONS[0], &broken).is_err(), "the schemas take {manifest}");
    }
    Ok(format!("{} manifests of {} overlays, Kubernetes {}", core.len(), overlays.len(), VERSIONS.join(", ")))
}

fn overlays(pack: &Pack<'_>) -> Result<Vec<PathBuf>> {
    let mut overlays = Vec::new();
    for root in ROOTS.map(|root| pack.workspace.path(root)) {
        for entry in fs::read_dir(&root).with_context(|| format!("cannot list {}", root.display()))? {
            let folder = entry.context("cannot list overlays")?.path();
            // A component is no overlay: those that use it show it.
            let is_overlay = fs::read_to_string(folder.join("kustomization.yaml"))
                .is_ok_and(|text| text.contains("kind: Kustomization"));
            overlays.extend(is_overlay.then_some(folder));
        }
    }
    overlays.sort();
    Ok(overlays)
}

fn render(pack: &Pack<'_>, overlay: &Path) -> Result<String> {
    let output = pack.workspace.command("kubectl").arg("kustomize").arg(overlay).output()?;
    if !output.status.success() {
        bail!("{} is not rendered: {}", overlay.display(), String::from_utf8_lossy(&output.stderr));
    }
    String::from_utf8(output.stdout).context("what is rendered is no text")
}

/// Whether Kubernetes has the kind, not an operator.
fn is_core(manifest: &str) -> bool {
    let version = manifest.lines().find_map(|line| line.strip_prefix("apiVersion: ")).unwrap_or_default();
    let group = version.split_once('/').map_or("", |(group, _)| group);
    !group.contains('.') || group.ends_with(".k8s.io")
}

fn validate(pack: &Pack<'_>, version: &str, file: &Path) -> Result<()> {
    let mut validate = pack.python.command(pack.workspace, "kubernetes-validate");
    quietly(validate.args(["--strict", "--quiet", "-k", version]).arg(file))
        .with_context(|| format!("not as Kubernetes {version} has it"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_operators_are_not_held_to_the_schemas_of_kubernetes() {
        for (version, core) in [
            ("v1", true),
            ("apps/v1", true),
            ("networking.k8s.io/v1", true),
            ("monitoring.coreos.com/v1", false),
            ("argoproj.io/v1alpha1", false),
        ] {
            assert_eq!(is_core(&format!("apiVersion: {version}\nkind: A")), core, "{version}");
        }
    }
}
