"""One pass answers everything: each output against its definition, by hand, by identity and by sampling."""

from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
from torch import nn

from hilum.errors import UsageError
from hilum.models.classifier import Classifier
from hilum.models.explained import OUTPUTS, Explained, Member, dropout_masks
from hilum.models.heads import Head

Make = Callable[..., Classifier]


def entropy(probabilities: torch.Tensor) -> torch.Tensor:
    return torch.distributions.Categorical(probs=probabilities).entropy()


def members_on_one_prefix(make: Make, count: int) -> list[Classifier]:
    """Members that differ from the last block on, as after fine-tuning it fold by fold."""
    first = make(seed=0)
    members = [first]
    for seed in range(1, count):
        other, fresh = deepcopy(first), make(seed=seed)
        other.encoder.block5.load_state_dict(fresh.encoder.block5.state_dict())
        other.head.load_state_dict(fresh.head.state_dict())
        members.append(other)
    return members


@pytest.fixture
def by_hand(make_classifier: Make) -> Classifier:
    """One feature map, two hidden units of which the second sleeps, two findings."""
    classifier = make_classifier("lenet5", size=32)
    classifier.head = Head(1, 2, 2, 0.5)
    with torch.no_grad():
        classifier.head.fc1.weight.copy_(torch.tensor([[1.0], [-1.0]]))
        classifier.head.fc1.bias.zero_()
        classifier.head.fc2.weight.copy_(torch.tensor([[2.0, 5.0], [-1.0, 7.0]]))
        classifier.head.fc2.bias.zero_()
    return classifier


def test_heat_map_and_its_spread_by_hand(by_hand: Classifier) -> None:
    """α = ¼·(2, −1): evidence ½A and −¼A; a mask of 0 or 2 with equal chance spreads each by its own size."""
    maps = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    masks = torch.tensor([[2.0, 2.0], [0.0, 2.0]])
    with torch.no_grad():
        answer = Member(by_hand, 5, masks)(maps)
    assert answer.logits.tolist() == [[5.0, -2.5]]
    torch.testing.assert_close(answer.evidence[0, 0], maps[0, 0] / 2)
    torch.testing.assert_close(answer.evidence[0, 1], -maps[0, 0] / 4)
    torch.testing.assert_close(answer.spread[0, 0].sqrt(), maps[0, 0] / 2)
    assert answer.samples.tolist() == [[[10.0, -5.0], [0.0, 0.0]]]
    assert answer.features.tolist() == [[2.5]]


def test_outputs_have_their_names_shapes_and_ranges(make_classifier: Make, films: torch.Tensor) -> None:
    with torch.inference_mode():
        answer = Explained([make_classifier()])(films)
    shapes = {name: tuple(value.shape) for name, value in answer._asdict().items()}
    assert tuple(shapes) == OUTPUTS
    maps = {"cam": (4, 3, 4, 4), "cam_std": (4, 3, 4, 4), "features": (4, 176), "mutual_information": (4,)}
    assert shapes == {name: maps.get(name, (4, 3)) for name in OUTPUTS}
    assert all(bool((value >= 0).all()) for name, value in answer._asdict().items() if name != "logits")
    torch.testing.assert_close(answer.probabilities.sum(1), torch.ones(4))
    torch.testing.assert_close(answer.mc_mean.sum(1), torch.ones(4))


def test_one_member_answers_as_its_classifier(make_classifier: Make, films: torch.Tensor) -> None:
    classifier = make_classifier()
    with torch.inference_mode():
        answer, logits = Explained([classifier], temperature=1.7)(films), classifier(films)
        maps = classifier.features(films)
    torch.testing.assert_close(answer.logits, logits)
    torch.testing.assert_close(answer.probabilities, torch.softmax(logits / 1.7, 1))
    torch.testing.assert_close(answer.features, maps.mean((2, 3)))
    assert torch.equal(answer.member_std, torch.zeros(4, 3))


@pytest.mark.parametrize("backbone", ["hilum_small", "densenet121", "efficientnet_b0", "squeezenet1_1"])
def test_evidence_adds_up_to_the_logits(make_classifier: Make, films: torch.Tensor, backbone: str) -> None:
    """Σ α·A + W2·(1[h>0]∘b1) + b2 = logits: nothing of an answer lies outside its heat map but the biases."""
    classifier = make_classifier(backbone)
    head = classifier.head
    with torch.inference_mode():
        maps = classifier.features(films)
        maps = maps / maps.abs().max()  # untrained nets differ by orders of magnitude; the bound is absolute
        answer = Member(classifier, len(classifier.encoder.layers), torch.ones((1, 32)))(maps)
        active = (head.fc1(maps.mean((2, 3))) > 0).float()
        total = answer.evidence.sum((2, 3)) + (active * head.fc1.bias) @ head.fc2.weight.T + head.fc2.bias
        logits = head(maps)
    assert (total - logits).abs().max() <= 1e-5


def test_monte_carlo_equals_a_loop_over_the_masks(make_classifier: Make, films: torch.Tensor) -> None:
    classifier = make_classifier()
    head, masks = classifier.head, dropout_masks(classifier.head, 32, 9, 0)
    with torch.inference_mode():
        answer = Explained([classifier], temperature=0.8, seed=9)(films)
        hidden = torch.relu(head.fc1(classifier.features(films).mean((2, 3))))
        sampled = torch.stack([torch.softmax(head.fc2(hidden * mask) / 0.8, 1) for mask in masks])
    torch.testing.assert_close(answer.mc_mean, sampled.mean(0))
    torch.testing.assert_close(answer.mc_std, sampled.std(0, correction=0), rtol=1e-4, atol=1e-6)
    information = entropy(sampled.mean(0)) - entropy(sampled).mean(0)
    torch.testing.assert_close(answer.mutual_information, information, rtol=1e-3, atol=1e-6)


def test_logit_variance_under_masks_is_the_closed_form(make_classifier: Make, films: torch.Tensor) -> None:
    """p/(1−p)·Σ_j W2[k,j]²·relu(h_j)², against 40,000 sampled masks."""
    classifier = make_classifier(dropout=0.3)
    head = classifier.head
    with torch.inference_mode():
        maps = classifier.features(films)
        member = Member(classifier, 6, dropout_masks(head, 40_000, 0, 0))
        sampled = member(maps).samples.var(1)
        hidden = torch.relu(head.fc1(maps.mean((2, 3))))
        closed = 0.3 / 0.7 * (hidden**2) @ (head.fc2.weight**2).T
    torch.testing.assert_close(sampled, closed, rtol=0.04, atol=0)


def test_spread_of_the_heat_map_is_what_sampled_masks_give(make_classifier: Make, films: torch.Tensor) -> None:
    classifier = make_classifier(dropout=0.3)
    head = classifier.head
    masks = dropout_masks(head, 40_000, 0, 0)
    with torch.inference_mode():
        maps = classifier.features(films)
        closed = Explained([classifier])(films).cam_std
        active = (head.fc1(maps.mean((2, 3))) > 0).float()
        responses = torch.einsum("jc,ncyx->njyx", head.fc1.weight, maps) / 16
        weights = torch.einsum("tj,kj,nj->ntkj", masks, head.fc2.weight, active)
        sampled = torch.einsum("ntkj,nj->ntk", weights, responses[:, :, 1, 2]).std(1)
    torch.testing.assert_close(closed[:, :, 1, 2], sampled, rtol=0.03, atol=0)


def test_without_dropout_one_member_is_certain(make_classifier: Make, films: torch.Tensor) -> None:
    with torch.inference_mode():
        answer = Explained([make_classifier(dropout=0.0)])(films)
    torch.testing.assert_close(answer.mc_mean, answer.probabilities)
    assert answer.mc_std.abs().max() < 1e-6
    assert answer.mutual_information.abs().max() < 1e-6
    assert answer.cam_std.max() == 0


def test_an_ensemble_is_the_mean_of_its_members(make_classifier: Make, films: torch.Tensor) -> None:
    members = [make_classifier(seed=seed) for seed in range(3)]
    with torch.inference_mode():
        answer = Explained(members, temperature=1.5, seed=4)(films)
        logits = torch.stack([member(films) for member in members])
        alone = [Explained([member], temperature=1.5, seed=4)(films) for member in members]
    chances = torch.softmax(logits / 1.5, -1)
    torch.testing.assert_close(answer.logits, logits.mean(0))
    torch.testing.assert_close(answer.probabilities, chances.mean(0))
    torch.testing.assert_close(answer.member_std, chances.std(0, correction=0))
    torch.testing.assert_close(answer.cam, torch.stack([a.cam for a in alone]).mean(0))
    torch.testing.assert_close(answer.features, torch.stack([a.features for a in alone]).mean(0))


def test_ensemble_heat_map_spread_holds_within_and_between(make_classifier: Make, films: torch.Tensor) -> None:
    """The law of total variance: mean of the members' variances and variance of their means."""
    members = [make_classifier(seed=seed, dropout=0.0) for seed in range(3)]
    masks = torch.ones((1, 32))
    with torch.inference_mode():
        answer = Explained(members)(films)
        evidence = torch.stack([Member(m, 0, masks)(m.normalise(films)).evidence for m in members])
    torch.testing.assert_close(answer.cam_std, evidence.std(0, correction=0))


def test_a_shared_prefix_answers_as_whole_members_do(make_classifier: Make, films: torch.Tensor) -> None:
    members = members_on_one_prefix(make_classifier, 3)
    with torch.inference_mode():
        shared, whole = Explained(members, cut="block5")(films), Explained(members)(films)
    for name in OUTPUTS:
        torch.testing.assert_close(getattr(shared, name), getattr(whole, name), rtol=1e-5, atol=1e-7)
    parameters = [sum(p.numel() for p in Explained(members, cut=cut).parameters()) for cut in ("block5", None)]
    assert parameters[0] < 0.7 * parameters[1]


def test_a_cut_before_an_in_place_layer_keeps_members_apart(make_classifier: Make, films: torch.Tensor) -> None:
    """AlexNet's features.11 is an in-place ReLU: behind that cut each member must see the maps as they are."""
    first, second = make_classifier("alexnet"), make_classifier("alexnet")
    with torch.no_grad():
        second.head.fc1.weight.neg_()
    with torch.inference_mode():
        shared, whole = Explained([first, second], cut="features.11")(films), Explained([first, second])(films)
    torch.testing.assert_close(shared.logits, whole.logits)


def test_a_prefix_that_is_not_shared_is_refused(make_classifier: Make) -> None:
    members = [make_classifier(seed=0), make_classifier(seed=1)]
    with pytest.raises(UsageError, match=r"Member 1 differs from member 0 in layer stem \(0.weight\).*Share no prefix"):
        Explained(members, cut="block5")


def test_masks_are_constants_of_the_seed(make_classifier: Make, films: torch.Tensor) -> None:
    classifier = make_classifier()
    with torch.inference_mode():
        first, again = Explained([classifier], seed=1)(films), Explained([classifier], seed=1)(films)
        other = Explained([classifier], seed=2)(films)
    assert torch.equal(first.mc_std, again.mc_std)
    assert not torch.equal(first.mc_std, other.mc_std)


def test_masks_keep_the_mean_and_differ_between_members() -> None:
    head = Head(4, 64, 3, 0.25)
    masks = dropout_masks(head, 2000, 0, 0)
    assert masks.unique().tolist() == pytest.approx([0.0, 1 / 0.75])
    assert masks.mean().item() == pytest.approx(1.0, abs=0.01)
    assert not torch.equal(masks, dropout_masks(head, 2000, 0, 1))


def test_an_answer_does_not_depend_on_its_batch(make_classifier: Make, films: torch.Tensor) -> None:
    explained = Explained([make_classifier()])
    with torch.inference_mode():
        together, alone = explained(films), explained(films[2:3])
    for name in OUTPUTS:
        torch.testing.assert_close(getattr(together, name)[2:3], getattr(alone, name), rtol=1e-4, atol=1e-6)


def test_dropout_and_batch_norm_are_off_whatever_the_members_mode(make_classifier: Make) -> None:
    explained = Explained([make_classifier().train()])
    assert not any(layer.training for layer in explained.modules() if isinstance(layer, nn.BatchNorm2d))


def test_what_cannot_be_explained_is_refused(make_classifier: Make) -> None:
    with pytest.raises(UsageError, match="needs at least one member, but got none"):
        Explained([])
    with pytest.raises(UsageError, match="temperature is 0.0, but must be above 0"):
        Explained([make_classifier()], temperature=0.0)
    with pytest.raises(UsageError, match="Members differ in backbone, findings, size or channels"):
        Explained([make_classifier(), make_classifier(size=32)])
    with pytest.raises(UsageError, match="Members normalise with different mean and std"):
        Explained([make_classifier(), make_classifier(mean=(0.1,), std=(0.1,))])
