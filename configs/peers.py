"""Options of pytorch-CycleGAN-and-pix2pix and what they are called here: for docs and for messages."""

from __future__ import annotations

import re

# Their option (several where they belong together), and the answer; both as they stand in docs/training.md.
OPTIONS = (
    ("`--dataroot DIR`", "`--data.root DIR`"),
    (
        "`--netG unet_256`",
        "`--config facades-paper --generator.sampling strided`; without a recipe "
        "`--generator.sampling strided --generator.num_downs 8`",
    ),
    ("`--ngf 64`, `--ndf 64`", "`--generator.ngf 64`, `--discriminator.ndf 64`"),
    (
        "`--netD basic`, `--n_layers_D N`",
        "`--discriminator.kind patch`, `--discriminator.n_layers N`; for `pixel` "
        "`--discriminator.kind pixel`",
    ),
    ("`--gan_mode vanilla`, `lsgan`", "`--loss.gan vanilla`, `lsgan`, `hinge`, `relativistic`"),
    ("`--lambda_L1 100`", "`--loss.lambda_l1 100`"),
    (
        "`--norm batch`, `instance`, `none`",
        "`--generator.norm`, `--discriminator.norm`; also `group`, `renorm`. Here `batch` uses its running "
        "statistics at test time",
    ),
    ("`--no_dropout`", "`--generator.dropout false`"),
    ("`--direction BtoA`", "`--data.direction BtoA`"),
    (
        "`--input_nc 1 --output_nc 3`",
        "`--generator.in_channels 1 --generator.out_channels 3`; up to 64 from TIFF",
    ),
    (
        "`--load_size 286 --crop_size 256 --no_flip`",
        "`--data.load_size 286 --data.crop_size 256 --data.flip false`",
    ),
    ("`--phase train`", "`--data.train_split train`; for validation `--data.val_split test`"),
    ("`--n_epochs 100 --n_epochs_decay 100`", "`--train.epochs 200 --train.decay_epochs 100`"),
    ("`--lr 0.0002 --beta1 0.5`", "`--train.learning_rate 0.0002 --train.beta1 0.5`"),
    (
        "`--lr_policy linear`, `cosine`, `step`, `plateau`",
        "`--train.lr_policy`; `plateau` follows the validation's L1 (there it is fed a constant)",
    ),
    ("`--lr_decay_iters 50`", "`--train.step_epochs 50`, in epochs"),
    ("`--pool_size 0`", "no image buffer, as in the paper"),
    ("`--name NAME --checkpoints_dir DIR`", "`--out DIR/NAME`"),
    (
        "`--gpu_ids 0`",
        "`--device cuda` with `CUDA_VISIBLE_DEVICES=0`; several: `torchrun --nproc_per_node=N`",
    ),
    ("`--num_threads 4`", "`--workers 4`"),
    (
        "`--save_epoch_freq 5 --save_latest_freq N`",
        "`--train.save_every 5`, `--train.save_every_s SECONDS`; kept ones `--train.keep_every 5`",
    ),
    ("`--print_freq 100`", "`--train.log_every_steps 100`"),
    (
        "`--continue_train --epoch_count N`",
        "nothing: the same command again goes on, to the bit on a CPU",
    ),
    (
        "`--display_id`, `--use_wandb`",
        "`metrics.jsonl`, `samples/`; `--train.tracker tensorboard`, `wandb` or `mlflow`",
    ),
)


def answer(option: str) -> str | None:
    """Return what an option of theirs is here, in words, or None if they have none of that name."""
    for theirs, ours in OPTIONS:
        if option in re.findall(r"--\w+", theirs):
            return ours.replace("`", "")
    return None


def table() -> str:
    """Return both columns as Markdown."""
    return "\n".join(["| there | here |", "|---|---|", *(f"| {a} | {b} |" for a, b in OPTIONS)])
