"""CAT's two levels and its radii against sections 5 and 6 of its page, slot by slot."""

import pytest
import torch
from contract_setting import Contract
from method_setting import DIM, ITEMS, LOSSES, MAX_LEN, NO_DROPOUT, ROWS, Setting, gradients, slot_loss


@pytest.fixture
def setting(sequences_of):
    return lambda loss="bce", *arguments, **keys: Setting("cat", sequences_of, loss, *arguments, **keys)


def oracle_loss(name, user, target, positive, table, negative=None, sampled=None):
    """Mean over the slots; user and positive [n, D], sampled [n, N, D] or [N, D] (None: every item but the target)."""
    total = 0
    for slot, item in enumerate(target.tolist()):
        if name == "cross_entropy":
            others = [table[other] for other in range(1, ITEMS + 1) if other != item]
        elif name == "sampled_softmax":
            others = [vector for vector, other in zip(sampled, negative.tolist(), strict=True) if other != item]
        else:
            others = list(sampled[slot])
        total = total + slot_loss(name, user[slot] @ positive[slot], [user[slot] @ other for other in others])
    return total / len(target)


def oracle_step(method, loss, batch, weight, direction="gradient", level2="both"):
    """L_rec, L_adv1 and L_adv2 as section 5 has them."""
    table, mask, slots = method.items.weight, batch.seq > 0, batch.target > 0
    target = batch.target[slots]
    negative = batch.negative
    if negative is not None and negative.dim() == 3:
        negative = negative[slots]

    def hidden_of(x):
        return method.backbone(x, mask)[slots]

    def leaf(value):
        return value.detach().clone().requires_grad_()

    def along(g):
        return g.sign() if direction == "sign" else g / (g.norm() + 1e-12)

    e, positive = leaf(table[batch.seq]), leaf(table[target])
    sampled = None if negative is None else leaf(table[negative])
    clean_hidden = hidden_of(e)
    clean_hidden.retain_grad()
    oracle_loss(loss, clean_hidden, target, positive, table.detach(), negative, sampled).backward()

    delta = torch.zeros_like(e)
    for b in range(len(e)):
        for t in range(e.shape[1]):
            if mask[b, t]:
                delta[b, t] = method.item_radius * weight[b, t] * along(e.grad[b, t])
    user_radius = method.user_radius if level2 == "both" else 0.0
    shift_user = torch.stack([user_radius * along(g) for g in clean_hidden.grad])
    shift_positive = torch.stack([method.item_radius * along(g) for g in positive.grad])
    clean_sampled = shifted_sampled = None
    if sampled is not None:
        flat = sampled.grad.view(-1, DIM)
        shift_sampled = torch.stack([method.item_radius * along(g) for g in flat]).view_as(sampled)
        clean_sampled = table[negative]
        shifted_sampled = clean_sampled + shift_sampled

    x = table[batch.seq]
    hidden = hidden_of(x)
    return (
        oracle_loss(loss, hidden, target, table[target], table, negative, clean_sampled),
        oracle_loss(loss, hidden_of(x + delta), target, table[target], table, negative, clean_sampled),
        oracle_loss(
            loss, hidden + shift_user, target, table[target] + shift_positive, table, negative, shifted_sampled
        ),
    )


def check_against_oracle(case, loss, **how):
    method = case.method
    precise = loss != "cross_entropy"  # its chunks are in single precision
    if precise:
        method.double()
    method.on_stage(1)
    logs = method.losses(case.batch)
    parts = oracle_step(method, loss, case.batch, method.slot_weights(case.batch), **how)
    total = parts[0] + method.lambda1 * parts[1] + method.lambda2 * parts[2]
    tolerance = 1e-9 if precise else 2e-5
    for name, wanted in zip(("loss_clean", "loss_adv1", "loss_adv2", "loss"), (*parts, total), strict=True):
        assert logs[name].item() == pytest.approx(wanted.item(), rel=tolerance), name
    mine, wanted = (gradients(method, value) for value in (logs["loss"], total))
    for name, gradient in wanted.items():
        assert torch.allclose(mine[name], gradient, rtol=1e-4, atol=1e-9 if precise else 2e-6), name
        assert gradient.abs().max() > 0 or "query_key_value.bias" in name, name  # everything is moved
    return parts


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("backbone", NO_DROPOUT)
def test_both_levels_and_their_gradients(setting, loss, backbone):
    case = setting(loss, backbone, lambda1=0.7, lambda2=0.4, rho=0.3)
    clean, first, second = check_against_oracle(case, loss)
    assert first > clean
    assert second > clean


def test_signs_and_items_alone(setting):
    check_against_oracle(setting("bce", direction="sign"), "bce", direction="sign")
    check_against_oracle(setting("bce", level2="items"), "bce", level2="items")


def test_perturbed_look_ups(setting):
    case = setting(lambda2=0, rho=0.2)
    method, batch, seen = case.method, case.batch, []
    method.on_stage(1)
    encode = method.encode
    method.encode = lambda seq, x, **options: seen.append(x.detach()) or encode(seq, x, **options)
    method.losses(batch)
    clean, perturbed = seen  # one more encoder pass, no other
    delta, mask = perturbed - clean, batch.seq > 0
    assert torch.equal(clean, method.items(batch.seq))
    wanted = 0.2 * method.items.weight[1:].norm(dim=1).mean() * method.slot_weights(batch)
    assert torch.allclose(delta.norm(dim=-1), wanted, atol=1e-6)
    assert (delta[~mask] == 0).all()
    assert (wanted[mask] > 0).all()


@pytest.mark.parametrize("steps", [1, 3])
def test_encoder_passes(setting, steps):
    case = setting(steps=steps, step_size=0.5, loss="sampled_softmax")
    case.method.on_stage(1)
    passes, run = [], case.method.backbone.run
    case.method.backbone.run = lambda *arguments: passes.append(1) or run(*arguments)
    case.method.losses(case.batch)["loss"].backward()
    assert len(passes) == 1 + steps


def test_perturbations_raise_the_loss_to_first_order(setting):
    case = setting(dropout=True, rho=0.01)
    case.method.eval()
    case.method.on_stage(1)
    logs = case.method.losses(case.batch)
    assert logs["loss_adv1"] > logs["loss_clean"]
    assert logs["loss_adv2"] > logs["loss_clean"]
    noise = setting(dropout=True, rho=0.01, direction="random")
    noise.method.eval()
    noise.method.on_stage(1)
    lower = noise.method.losses(noise.batch)
    assert lower["loss_adv1"] < logs["loss_adv1"]
    assert lower["loss_adv2"] < logs["loss_adv2"]


def test_more_steps_find_a_higher_loss(setting):
    values = {}
    for steps, size in ((1, 1.0), (8, 0.3)):
        case = setting(steps=steps, step_size=size, rho=1.0)
        case.method.on_stage(1)
        values[steps] = case.method.losses(case.batch)
    assert values[8]["loss_adv1"] > values[1]["loss_adv1"]
    assert values[8]["loss_adv2"] >= values[1]["loss_adv2"] - 1e-6


@pytest.mark.parametrize("keys", [{"lambda1": 0, "lambda2": 0}, {"weights": "none"}])
@pytest.mark.parametrize("loss", ["bce", "cross_entropy"])
def test_without_the_adversary_a_step_is_plain(setting, keys, loss):
    results = []
    for stage in (0, 1):
        case = setting(loss, dropout=True, **keys)
        case.method.on_stage(stage)
        torch.manual_seed(5)
        total = case.method.losses(case.batch)["loss"]
        results.append((total, gradients(case.method, total), torch.rand(1)))
    (plain, plain_gradients, after), (cat, cat_gradients, after_cat) = results
    assert torch.equal(plain, cat)
    assert torch.equal(after, after_cat)  # no number is drawn that plain training does not draw
    for name, gradient in plain_gradients.items():
        assert torch.allclose(gradient, cat_gradients[name], atol=1e-8), name


# --- section 6: stages


def test_radii_are_fixed_at_the_start_of_the_stage(setting):
    case = setting(dropout=True, rho=0.5, backbone="gru4rec")
    method = case.method
    method.train()
    assert method.on_stage(0) is None
    assert method.item_radius == method.user_radius == 0
    assert method.on_stage(1) == 100
    assert method.training
    rows = [method.items.weight[item].norm().item() for item in range(1, ITEMS + 1)]
    assert method.item_radius.item() == pytest.approx(0.5 * sum(rows) / ITEMS, rel=1e-6)
    method.eval()
    norms = []
    for row in ROWS:
        if len(row) > 1:
            seq = torch.tensor([row[:-1][-MAX_LEN:]])
            norms += method.backbone(method.items(seq), seq > 0)[0].norm(dim=-1).tolist()
    assert method.user_radius.item() == pytest.approx(0.5 * sum(norms) / len(norms), rel=1e-5)
    fixed = {name: value.clone() for name, value in method.state_dict().items() if "radius" in name}
    assert set(fixed) == {"item_radius", "user_radius"}
    with torch.no_grad():
        method.items.weight.mul_(3)
    method.losses(case.batch)
    assert all(torch.equal(method.state_dict()[name], value) for name, value in fixed.items())


def test_only_supervised_states_count_where_rows_are_prefixes(setting):
    case = setting(backbone="fmlprec", rho=1.0)
    case.method.on_stage(1)
    norms = []
    for row in ROWS:
        if len(row) > 1:
            seq = torch.tensor([row[:-1][-MAX_LEN:]])
            norms.append(case.method.backbone(case.method.items(seq), seq > 0)[0, -1].norm().item())
    assert case.method.user_radius.item() == pytest.approx(sum(norms) / len(norms), rel=1e-5)


# --- what tests/contract asks


def alive(experiment, log):
    """Weights rise with position among the items that no other user has."""
    method = experiment.method
    tried, rising = 0, 0
    for batch in experiment.loader.epoch(0):
        alone = (method.effect == method.direct)[batch.index] & (batch.seq > 0)
        for weight, own in zip(method.slot_weights(batch), alone, strict=True):
            chosen = weight[own]
            tried += len(chosen) > 1
            rising += len(chosen) > 1 and bool((chosen.diff() > 0).all())
    assert tried == rising > 0


# some items are one user's alone, no row is cut
CONTRACT = Contract(alive, longer={"": ("method.stage2_epochs=4", "dataset.items=2000", "max_len=64")})
