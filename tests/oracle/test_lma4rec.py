"""LMA4Rec against its page: where its dropouts are, aligned passes, who moves what, ablations, resume. The gradient is next door."""

import copy
import functools

import pytest
import torch
from contract_setting import Contract
from contrast_setting import Setting, configure, contrast_is_alive, train_on_synthetic

BACKBONES = ["sasrec", "gru4rec", "fmlprec"]


@pytest.fixture
def setting(sequences_of):
    return functools.partial(Setting, sequences_of, "lma4rec")


# --- section 2: where the dropouts are


@pytest.mark.parametrize(("backbone", "units"), [("sasrec", [4, 4]), ("gru4rec", [6, 6]), ("fmlprec", [4, 4])])
def test_every_layer_has_a_gate_for_the_units_it_puts_out(setting, backbone, units):
    method = setting("method.keep=[.5,.8]", "method.per_unit=true", backbone=backbone, dropout=True).method
    assert [layer.dropout for layer in method.backbone.layers] == method.dropouts
    assert [dropout.units for dropout in method.dropouts] == units
    assert not method.dropouts[0].logit.any()  # keep .5 is a logit of exactly 0
    torch.testing.assert_close(torch.sigmoid(method.dropouts[1].logit), torch.full((units[1],), 0.8))
    assert method.training


# --- the two passes


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("share", [True, False])
def test_passes_differ_in_the_gates_alone(setting, backbone, share):
    tried = setting(f"method.share_positions={share}", backbone=backbone, dropout=True)
    method, batch = tried.method, tried.batch
    for dropout in method.dropouts:
        dropout.logit.data.fill_(40.0)  # always open, in both passes
    views = method.views(batch.seq, method.similar)
    torch.manual_seed(2)
    with method.mirrored():
        other, other_anchors, _ = method.states(batch, views)
        assert not other.requires_grad
        assert all(dropout.mirrored for dropout in method.dropouts)
    hidden, anchors, _ = method.states(batch, views)
    assert torch.equal(hidden, other)
    assert torch.equal(anchors, other_anchors)
    again, _, _ = method.states(batch, views)
    assert not torch.equal(hidden, again)  # the other dropouts do act
    assert not any(dropout.mirrored for dropout in method.dropouts)


def test_the_mirrored_pass_leaves_no_trace_in_the_generator(setting):
    tried = setting(dropout=True)
    method, batch = tried.method, tried.batch
    torch.manual_seed(4)
    method.losses(batch)
    after = torch.get_rng_state()
    torch.manual_seed(4)
    method.states(batch, method.views(batch.seq, method.similar))
    assert torch.equal(after, torch.get_rng_state())


def test_mirrored_draws_are_the_complement_where_keep_is_a_half(setting):
    tried = setting()
    method, batch = tried.method, tried.batch
    dropout, seen = method.dropouts[0], []
    dropout.register_forward_hook(lambda _, given, out: seen.append((out / given[0]).detach()))
    method.losses(batch)
    mirrored, plain = seen
    torch.testing.assert_close(plain + mirrored, torch.full_like(plain, 2.0))


# --- who moves what


@pytest.mark.parametrize("backbone", BACKBONES)
def test_groups_partition_the_parameters_and_each_moves_its_own(setting, backbone):
    tried = setting(backbone=backbone, dropout=True)
    method, batch = tried.method, tried.batch
    groups = method.param_groups()
    keep, model = (list(groups[name].parameters) for name in ("keep", "model"))
    assert [id(parameter) for parameter in keep] == [id(dropout.logit) for dropout in method.dropouts]
    assert sorted(map(id, keep + model)) == sorted(map(id, method.parameters()))
    assert groups["model"].optimizer is None
    optimizer = groups["keep"].optimizer(keep)
    assert isinstance(optimizer, torch.optim.Adam)
    assert optimizer.defaults["lr"] == configure("method=lma4rec")["trainer"]["optimizer"]["lr"]
    assert optimizer.defaults["weight_decay"] == 0
    method.losses(batch)["loss"].backward()
    before = {name: value.clone() for name, value in method.state_dict().items()}
    optimizer.step()
    logits = {f"backbone.layers.{number}.dropout.logit" for number in range(len(method.dropouts))}
    assert {name for name, value in method.state_dict().items() if not torch.equal(value, before[name])} == logits
    torch.optim.Adam(model).step()
    still = {name for name, value in method.state_dict().items() if torch.equal(value, before[name])}
    assert still == {"similar", "counted_item", "counted_score"}


def test_arm_reaches_the_gradient_of_the_logits_alone(setting):
    tried = setting("method.keep=.8", dropout=True)
    method, batch = tried.method, tried.batch
    torch.manual_seed(6)
    logs = method.losses(batch)
    assert torch.equal(logs["loss"], logs["next_item"] + method.weight * logs["contrast"])  # its value is nobody's
    logs["loss"].backward()
    made = {name: parameter.grad.clone() for name, parameter in method.named_parameters()}
    method.zero_grad()
    torch.manual_seed(6)
    hidden, anchors, _ = method.states(batch, method.views(batch.seq, method.similar))
    (method.next_item_loss(hidden, batch) + method.weight * anchors.mean()).backward()
    for name, parameter in method.named_parameters():
        assert torch.equal(made[name], parameter.grad) != name.endswith("logit")


def test_a_range_holds_the_keep_probabilities(setting):
    tried = setting("method.keep_range=[.4,.6]")
    method, batch = tried.method, tried.batch

    def update(loss):
        for dropout, value in zip(method.dropouts, (3.0, -3.0), strict=True):
            dropout.logit.data.fill_(value)

    method.optimize(batch, update)
    torch.testing.assert_close(
        torch.cat([torch.sigmoid(dropout.logit) for dropout in method.dropouts]), torch.tensor([0.6, 0.4])
    )


# --- section 6: the ablation


def test_without_lma_it_is_coserec_bit_by_bit(setting, sequences_of):
    results = []
    for tried in (setting("method.without=lma", dropout=True), Setting(sequences_of, "coserec", dropout=True)):
        torch.manual_seed(9)
        logs = tried.method.losses(tried.batch)
        logs["loss"].backward()
        results.append(
            (logs, [parameter.grad for parameter in tried.method.parameters()], tried.method.param_groups().keys())
        )
    assert results[0][0].keys() == results[1][0].keys()
    assert all(torch.equal(results[0][0][name], results[1][0][name]) for name in results[0][0])
    assert all(torch.equal(a, b) for a, b in zip(results[0][1], results[1][1], strict=True))
    assert results[0][2] == results[1][2]


def next_item_alone(method, batch):
    return method.next_item_loss(method.encode(batch.seq), batch)


def test_without_ssl_only_the_next_item_loss_is_left(setting):
    tried = setting("method.without=ssl", dropout=True)
    tried.method.views = None  # nothing is drawn
    torch.manual_seed(1)
    logs = tried.method.losses(tried.batch)
    torch.manual_seed(1)
    assert torch.equal(logs["loss"], next_item_alone(tried.method, tried.batch))
    assert "contrast" not in logs
    assert {"next_item", "keep_1", "keep_2", "gradient_sd_next_item"} <= logs.keys()


def test_without_da_both_views_are_the_sequence_itself_under_masks_of_their_own(setting):
    tried = setting("method.without=da")
    method, batch = tried.method, tried.batch
    views, taken = method.views(batch.seq, method.similar)
    assert torch.equal(views, batch.seq.repeat(2, 1))
    assert torch.equal(taken, views > 0)
    hidden = []
    method.contrast = lambda viewed, real, user: (hidden.append(viewed), torch.zeros(len(real)), torch.zeros(()))[1:]
    method.losses(batch)
    assert not torch.equal(*hidden[1].chunk(2))


def test_scores_are_those_of_the_backbone_without_its_gates(setting):
    for backbone in BACKBONES:
        tried = setting("method.keep=.1", backbone=backbone, dropout=True)
        method = tried.method.eval()
        bare = copy.deepcopy(method)
        for layer in bare.backbone.layers:
            layer.dropout = torch.nn.Identity()
        assert torch.equal(method.score(tried.batch), bare.score(tried.batch))


def test_defaults_are_the_page_s_and_coserec_s():
    values, base = configure("method=lma4rec")["method"], configure("method=coserec")["method"]
    assert {key: values[key] for key in base if key not in ("name", "_target_")} == {
        key: base[key] for key in base if key not in ("name", "_target_")
    }
    assert (values["keep"], values["per_unit"], values["share_positions"], values["pathwise"]) == (
        0.5,
        False,
        True,
        True,
    )
    assert (values["keep_range"], values["without"]) == (None, None)


# --- exact resume, and alive


def test_a_run_cut_in_two_ends_with_the_same_bits(setting):
    def run(tried, optimizers, steps):
        for _ in range(steps):

            def update(loss):
                for optimizer in optimizers:
                    optimizer.zero_grad()
                loss.backward()
                for optimizer in optimizers:
                    optimizer.step()

            tried.method.optimize(tried.batch, update)

    def begin():
        tried = setting("method.hybrid_from=0", dropout=True)
        groups = tried.method.param_groups()
        optimizers = [(group.optimizer or torch.optim.Adam)(list(group.parameters)) for group in groups.values()]
        tried.method.on_epoch(0)
        return tried, optimizers

    whole, optimizers = begin()
    torch.manual_seed(1)
    run(whole, optimizers, 3)
    saved = copy.deepcopy((whole.method.state_dict(), [optimizer.state_dict() for optimizer in optimizers]))
    generator = torch.get_rng_state()
    run(whole, optimizers, 3)
    resumed, others = begin()
    resumed.method.load_state_dict(saved[0])
    for optimizer, state in zip(others, saved[1], strict=True):
        optimizer.load_state_dict(state)
    torch.set_rng_state(generator)
    run(resumed, others, 3)
    expected = whole.method.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in resumed.method.state_dict().items())
    assert whole.method.dropouts[0].logit.any()


@pytest.mark.slow
@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_alive_keep_logits_move_and_views_find_each_other(noise):
    method, logs = train_on_synthetic(noise, 20, "method=lma4rec", "loss=bce", "method.keep_optimizer.lr=.005")
    late = logs[-10:]
    assert max(dropout.logit.detach().abs().max().item() for dropout in method.dropouts) > 0.05
    assert sum(log["contrast_accuracy"] for log in late) / len(late) > 20 / 127
    assert sum(log["next_item"] for log in late) < sum(log["next_item"] for log in logs[:10])


@pytest.mark.slow
def test_alive_without_contrast_the_rates_fall():
    method, logs = train_on_synthetic(
        0.0, 40, "method=lma4rec", "loss=bce", "method.without=ssl", "method.keep_optimizer.lr=.005"
    )
    keep = torch.cat([torch.sigmoid(dropout.logit.detach()) for dropout in method.dropouts])
    assert keep.mean() > 0.5 + 0.0125  # a mean logit of .05
    assert logs[-1]["next_item"] < 0.9 * logs[0]["next_item"]


# --- what tests/contract asks


def alive(experiment, log):
    logits = torch.cat([dropout.logit.detach() for dropout in experiment.method.dropouts])
    assert logits.abs().max() > 0.05
    contrast_is_alive(experiment, log)


CONTRACT = Contract(alive, longer={"": ("method.keep_optimizer.lr=0.01", "trainer.max_epochs=12")}, pages=("coserec",))
