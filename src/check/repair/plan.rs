//! From findings to steps: a pure function, and the facts that it needs beside them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{BeyondRepair, RepairAction, RepairError, RepairOptions, RepairPlan, RepairStep};
use crate::check::{Finding, FindingCode, Severity};
use crate::event::Observer;
use crate::id::SnapshotId;
use crate::repo::names::{self, Named};
use crate::repo::{MendHow, Repo, RepoError, StuckPrune};
use crate::storage::ObjectName;

/// What is known beside the findings.
#[derive(Debug, Default)]
pub struct Facts {
    /// What can be brought back, by the name of the object: what is put where, and from what.
    pub mends: BTreeMap<String, Vec<(String, MendHow)>>,
    /// Prunes that cannot go on.
    pub stuck: Vec<(u64, StuckPrune)>,
    /// Packs of whose damage something is stated, by name.
    pub stated: BTreeSet<String>,
    /// Damaged snapshots of which there is one with what is left.
    pub kept: BTreeSet<SnapshotId>,
    /// Whether the operator promises that no prune is at work.
    pub is_exclusive: bool,
}

/// The object that a name is of, be it that of a second copy.
pub fn object_of(name: &str) -> Option<Named> {
    names::parse(&ObjectName::new(name.strip_prefix("copy/").unwrap_or(name)).ok()?)
}

/// Finds out what can be brought back. Reads every object that something was found of, one after the other.
pub fn gather(
    repo: &Arc<Repo>,
    findings: &[Finding],
    options: &RepairOptions,
    observer: &dyn Observer,
) -> Result<Facts, RepairError> {
    observer.phase("finding out what can be mended");
    let mut facts = Facts { is_exclusive: options.exclusive, ..Facts::default() };
    let view = repo.sync_index()?;
    for finding in findings {
        super::stop_if_interrupted(observer)?;
        let Some((object, name)) = object_of(&finding.object).and_then(|it| Some((it, it.object_name()?)))
        else {
            continue;
        };
        if facts.mends.contains_key(name.as_str()) {
            continue;
        }
        if let Named::Pack(_, id) = object
            && view.stated_damage(&id).map_err(RepoError::from)?.is_some_and(|it| !it.frames.is_empty())
        {
            facts.stated.insert(name.to_string());
        }
        let mends = repo.find_mends(object)?.into_iter();
        let mends = mends.map(|mend| (mend.name.to_string(), mend.how)).collect();
        facts.mends.insert(name.to_string(), mends);
    }
    facts.mends.retain(|_, mends| !mends.is_empty());
    drop(view);
    for (number, state) in repo.list_decisions()? {
        facts.stuck.extend(repo.stuck_prune(number, state)?.map(|stuck| (number, stuck)));
    }
    let (list, _) = repo.examine_snapshots()?;
    facts.kept.extend(list.snapshots.iter().filter_map(|it| it.left_of()).map(|damaged| damaged.snapshot));
    Ok(facts)
}

/// Decides what is done about each finding.
pub fn decide(findings: &[Finding], facts: &Facts) -> RepairPlan {
    let mut steps = BTreeSet::new();
    let mut beyond_repair = Vec::new();
    let mut damaged = BTreeMap::<SnapshotId, String>::new();
    for finding in findings {
        let base = finding.object.strip_prefix("copy/").unwrap_or(&finding.object);
        if let Some(mends) = facts.mends.get(base) {
            steps.extend(mends.iter().map(|(name, how)| mend(base, name, *how, findings)));
            continue;
        }
        match fate_of(finding) {
            // What is left of it is stored elsewhere already.
            _ if finding.code == FindingCode::PackShort && facts.stated.contains(&finding.object) => {}
            Fate::Do(action) => drop(steps.insert(step(action, &finding.object, &finding.message))),
            Fate::Hopeless(hint) => beyond_repair.push(BeyondRepair {
                object: finding.object.clone(),
                reason: finding.message.clone(),
                hint: hint.to_owned(),
            }),
            Fate::Leave => {}
        }
        if is_loss(finding) {
            for snapshot in &finding.snapshots {
                let reason = || format!("{}: {}", finding.object, finding.message);
                damaged.entry(*snapshot).or_insert_with(reason);
            }
        }
    }
    for (number, stuck) in &facts.stuck {
        close(*number, *stuck, facts.is_exclusive, &mut steps, &mut beyond_repair);
    }
    damaged.retain(|snapshot, _| !facts.kept.contains(snapshot));
    for (snapshot, reason) in &damaged {
        steps.insert(step(RepairAction::KeepWhatIsLeft, names::snapshot(snapshot).as_str(), reason));
    }
    let snapshots = damaged.into_keys().collect();
    RepairPlan { steps: one_for_each(steps), beyond_repair, snapshots, ..RepairPlan::default() }
}

/// What is done about a finding whose object cannot be brought back.
enum Fate {
    Do(RepairAction),
    Hopeless(&'static str),
    /// Nothing: it is harmless, it is done for another finding, or it is what its snapshots are about.
    Leave,
}

fn fate_of(finding: &Finding) -> Fate {
    const ELSEWHERE: &str = "another copy of the repository may still have it";
    if finding.severity == Severity::Note {
        return match finding.code {
            FindingCode::StatementOutdated => Fate::Do(RepairAction::StateDamage),
            FindingCode::PackNotIndexed if finding.is_mendable => Fate::Do(RepairAction::Describe),
            _ => Fate::Leave,
        };
    }
    match finding.code {
        FindingCode::PackDamaged | FindingCode::FrameDamaged | FindingCode::PackShort => {
            Fate::Do(RepairAction::StateDamage)
        }
        FindingCode::IndexObjectDamaged => Fate::Do(RepairAction::Describe),
        FindingCode::SnapshotDamaged => {
            Fate::Hopeless("`repo forget` with its id drops it; before that, back up what it held, if it is there")
        }
        FindingCode::SlotDamaged => Fate::Hopeless("add the passphrase or key again, and remove this slot"),
        FindingCode::OriginalMissing => {
            Fate::Hopeless("it was forgotten, so it does not come back; its second copy may be removed")
        }
        FindingCode::ConfigDamaged
        | FindingCode::KeyringDamaged
        | FindingCode::CopyDamaged
        | FindingCode::SnapshotChainGap
        | FindingCode::ForgetRecordMissing => Fate::Hopeless(ELSEWHERE),
        FindingCode::ForgetRecordDamaged => Fate::Hopeless("forget again what it had named"),
        FindingCode::ForgetRecordUntagged => Fate::Hopeless("find out who wrote it; it drops nothing"),
        FindingCode::NameUnparsable => Fate::Hopeless("whoever put it there may remove it"),
        FindingCode::DirectoryDiffers => {
            Fate::Hopeless("back up what the snapshots hold to a new repository, and report this")
        }
        // Their decisions are looked at one by one.
        FindingCode::DecisionDamaged
        // The next prune fences their writers.
        | FindingCode::LeaseDamaged
        | FindingCode::LeaseIncomplete
        | FindingCode::LeaseLeftover
        // It is disposable, and made again by whoever found it.
        | FindingCode::LocalIndexWrong
        // What they mean for snapshots is what counts.
        | FindingCode::PackMissing
        | FindingCode::NodeMissing
        | FindingCode::NodeDamaged
        | FindingCode::ChunkMissing
        | FindingCode::ParityDamaged
        | FindingCode::ReadmeDiffers
        | FindingCode::PackNotIndexed
        | FindingCode::DamageStated
        | FindingCode::StatementOutdated => Fate::Leave,
    }
}

/// Whether the snapshots of a finding lack parts, and can be read otherwise.
fn is_loss(finding: &Finding) -> bool {
    matches!(
        finding.code,
        FindingCode::PackMissing
            | FindingCode::PackShort
            | FindingCode::PackDamaged
            | FindingCode::FrameDamaged
            | FindingCode::NodeMissing
            | FindingCode::NodeDamaged
            | FindingCode::ChunkMissing
    )
}

fn close(
    number: u64,
    stuck: StuckPrune,
    is_exclusive: bool,
    steps: &mut BTreeSet<RepairStep>,
    beyond_repair: &mut Vec<BeyondRepair>,
) {
    let (name, what) = match stuck {
        StuckPrune::Plan => {
            (names::plan(number), "nobody can read what it plans, so writers and prunes wait")
        }
        StuckPrune::Verdict => (names::verdict(number), "nobody can read what it decided, so prunes wait"),
    };
    if stuck == StuckPrune::Plan || is_exclusive {
        steps.insert(step(RepairAction::ClosePrune, name.as_str(), what));
    } else {
        beyond_repair.push(BeyondRepair {
            object: name.to_string(),
            reason: what.to_owned(),
            hint: "if no prune is at work anywhere, give --exclusive".to_owned(),
        });
    }
}

fn step(action: RepairAction, object: &str, reason: &str) -> RepairStep {
    let effect = match action {
        RepairAction::Mend => "it is put in its place",
        RepairAction::Describe => "a new index object describes what is in packs, read from the packs",
        RepairAction::StateDamage => {
            "it is stated which frames are damaged: other copies count, and the next backup that meets the content stores it again"
        }
        RepairAction::ClosePrune => "that prune ends and deletes nothing more",
        RepairAction::KeepWhatIsLeft => {
            "a new snapshot gets what is left, and names what is lost; this one stays"
        }
    };
    RepairStep { action, object: object.to_owned(), reason: reason.to_owned(), effect: effect.to_owned() }
}

fn mend(base: &str, name: &str, how: MendHow, findings: &[Finding]) -> RepairStep {
    let about = findings.iter().find(|finding| finding.object == name || finding.object == base);
    let reason = about.map_or("it differs from its second copy", |finding| finding.message.as_str());
    let effect = match how {
        MendHow::FromParity => "its parity gives the damaged bytes",
        MendHow::ParityAgain => "its parity is made again",
        MendHow::Cut => "it is cut where it should end",
        MendHow::FromCopy => "its second copy takes its place",
        MendHow::CopyAgain => "the second copy is made again",
        MendHow::BackFromCopy => "its second copy brings it back",
        MendHow::FromIndex => "what is damaged of it follows from the index",
        MendHow::WrittenAgain => "it is written again",
    };
    RepairStep { effect: effect.to_owned(), ..step(RepairAction::Mend, name, reason) }
}

/// Several findings may ask for the same; the first of them says why. All descriptions are one step.
fn one_for_each(steps: BTreeSet<RepairStep>) -> Vec<RepairStep> {
    let mut all = Vec::<RepairStep>::new();
    for step in steps {
        if all.iter().rev().take_while(|it| it.action == step.action).all(|it| it.object != step.object) {
            all.push(step);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::PackId;
    use crate::index::PackKind;

    fn pack(number: u8) -> String {
        names::pack(PackKind::Data, &PackId::new([number; 32])).to_string()
    }

    fn snapshot(number: u8) -> SnapshotId {
        SnapshotId::new([number; 16])
    }

    fn done(plan: &RepairPlan) -> Vec<(RepairAction, &str)> {
        plan.steps.iter().map(|step| (step.action, step.object.as_str())).collect()
    }

    #[test]
    fn what_can_be_brought_back_is_and_its_snapshots_need_nothing_more() {
        let damaged = Finding::damage(FindingCode::PackDamaged, pack(1), "bad").of_snapshot(snapshot(1));
        let mut facts = Facts::default();
        facts.mends.insert(pack(1), vec![(pack(1), MendHow::FromParity)]);
        let plan = decide(&[damaged], &facts);
        assert_eq!(done(&plan), [(RepairAction::Mend, pack(1).as_str())]);
    }

    #[test]
    fn damage_that_stays_is_stated_before_what_is_left_is_kept_once() {
        let lost = |code, number| Finding::damage(code, pack(number), "bad").of_snapshot(snapshot(1));
        let findings = [
            lost(FindingCode::FrameDamaged, 2),
            lost(FindingCode::FrameDamaged, 2),
            lost(FindingCode::PackMissing, 3).of_snapshot(snapshot(2)),
        ];
        let (one, two) = (names::snapshot(&snapshot(1)), names::snapshot(&snapshot(2)));
        let expected = [
            (RepairAction::StateDamage, pack(2)),
            (RepairAction::KeepWhatIsLeft, one.to_string()),
            (RepairAction::KeepWhatIsLeft, two.to_string()),
        ];
        let plan = decide(&findings, &Facts::default());
        assert!(done(&plan).into_iter().eq(expected.iter().map(|(action, name)| (*action, name.as_str()))));
        let facts = Facts { kept: [snapshot(1), snapshot(2)].into(), ..Facts::default() };
        assert_eq!(done(&decide(&findings, &facts)), [(RepairAction::StateDamage, pack(2).as_str())]);
    }

    #[test]
    fn notes_need_nothing_unless_something_can_be_said_better() {
        let note = |code| Finding::note(code, pack(1), "worth knowing");
        let plan =
            decide(&[note(FindingCode::DamageStated), note(FindingCode::PackMissing)], &Facts::default());
        assert_eq!(done(&plan), []);
        let findings = [note(FindingCode::StatementOutdated), note(FindingCode::PackNotIndexed).mendable()];
        let expected =
            [(RepairAction::Describe, pack(1).to_owned()), (RepairAction::StateDamage, pack(1).to_owned())];
        let plan = decide(&findings, &Facts::default());
        assert!(done(&plan).into_iter().eq(expected.iter().map(|(action, name)| (*action, name.as_str()))));
    }

    #[test]
    fn a_verdict_that_cannot_be_read_is_closed_only_on_a_promise() {
        for (is_exclusive, stuck, step_count) in
            [(false, StuckPrune::Plan, 1), (false, StuckPrune::Verdict, 0), (true, StuckPrune::Verdict, 1)]
        {
            let facts = Facts { stuck: vec![(7, stuck)], is_exclusive, ..Facts::default() };
            let plan = decide(&[], &facts);
            assert_eq!((plan.steps.len(), plan.beyond_repair.len()), (step_count, 1 - step_count));
        }
    }
}
