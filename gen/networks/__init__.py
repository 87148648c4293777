"""The generators and discriminators of pix2pix, plain or anti-aliased."""
