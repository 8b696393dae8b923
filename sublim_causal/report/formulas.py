"""The formulas behind the numbers, and which of them each method of a plan rests on."""

from __future__ import annotations

SYMBOLS = """\
s seed (block and cluster), a arm, t step; p_t parameters, u_t = p_{t+1} - p_t the update;
L trait loss on the probe, g_t its gradient at p_t, d_t the distillation gradient
cos_gradient = <d_t, g_t> / (|d_t| |g_t|)    cos_update = <-u_t, g_t> / (|u_t| |g_t|)
drive_t = -<g_t, u_t>    gain_t = L(p_t) - L(p_{t+1})    remainder_t = gain_t - drive_t
bands: mean_s y_st -+ t(R-1) sd_s(y_st) / sqrt(R) at each step, R seeds"""

FORMULAS = {
    "paired_contrast": """\
D_s = Y_s(arm) - Y_s(reference);  mean(D) -+ t(R-1) sd(D) / sqrt(R)
if |skewness of D_s| > 1 (8 seeds or more), the hull of this and bootstrap-t over seeds:
    [D - q_high se, D - q_low se], q the quantiles of (D* - D) / se*
families: sign-flip max-T, p = (1 + #{max |t*| >= |t|}) / (1 + flips), or Holm""",
    "predictive_validity": """\
acquired y_sa = outcome - start;  Spearman of x and y over replicates, and of x - x_a and y - y_a
AUROC: P(x of one with y >= threshold mean_s y(reference) > x of one below), ties count half
percentiles over seeds drawn with all their arms""",
    "specificity": """\
y_ik = r_i + c_k + gamma d_ik + e_ik over runs i and traits k, y the log-odds minus the reference's,
    d 1 where a teacher of the run prefers the trait
gamma = sum d~ y / sum d~^2,  d~ = d - d_i - d_k + d_mean
se^2 = (R-1)/R sum_s (gamma_-s - gamma)^2, t(R-1);  p: whole runs exchange d
    (seeds do; if all seeds were taught the same, the arms of each)""",
    "arm_mean": """\
mean_s Y_s(arm), of the complete seeds; interval as for contrasts, clipped to the range of Y""",
    "descriptions": """\
counts, extremes, sums and medians over replicates: they describe the run and have no interval""",
    "collapsed_seeds": """\
below the widest gap (x_(k+1) - x_(k)) / sd(x_(k+1), ...), k <= R/2, if that exceeds 4 and, with
    fewer than 12 seeds, 99 % of normal samples;  share k/R with the exact binomial interval""",
    "equivalence": """\
TOST: p = max( P(T > (D + margin) / se), P(T < (D - margin) / se) ),  T ~ t(R-1)
equivalent at alpha if the 1 - 2 alpha interval lies inside (-margin, margin)""",
    "seed_summary": """\
x_s = mean over the window's steps of y_st, or of 1{y_st > 0};  interval as for contrasts
null: 0 for a mean or a difference, 1/2 for a share""",
    "weakest_epoch": """\
x_es = mean of y_st, or of 1{y_st > 0}, over the steps of epoch e >= 2;  min_e mean_s x_es
lower limit: the lowest of the epochs' (intersection-union test); upper: the lowest of theirs at
    level 1 - (1 - level) / E, E epochs""",
    "step_slope": """\
adjust = step: run means and the means of an arm's step are removed, x_sat - x_sa - x_at + x_a;
    with several arms those of a seed's step too;  beta = sum x~ y~ / sum x~^2
    CR2, seeds as clusters, Satterthwaite df
    gain on cos_update is to first order sum x~^2 |g_t| |u_t| / sum x~^2, an identity
adjust = none, and levels: a mixed model of all arms, which does not adjust for training time
y_sat = tau_a + beta x_sat + b0_s + b1_s x_sat + w_sa + e_sat, by REML
    (b0, b1)_s ~ N(0, Psi),  w_sa ~ N(0, tau^2),  e_sat ~ N(0, sigma^2)
CR2, seeds as clusters, Satterthwaite df:
    Var(beta) = M [ sum_s X_s' V_s^-1 A_s e_s e_s' A_s V_s^-1 X_s ] M,  M = (X' V^-1 X)^-1,
    A_s symmetric with A_s (V_s - X_s M X_s') A_s = V_s
by_arm: beta_a for beta
levels (Mundlak): x_sat - x_sa within runs, x_sa - x_s between arms, x_s - x between seeds
if |skewness of the seeds' contributions| > 1, the hull of this and bootstrap-t over seeds""",
    "mixed_model": """\
as step_slope, with the formula of the plan""",
    "reliability": """\
A = cos_half_a, B = cos_half_b, S their cross products within runs, summed over seeds
of one half: r = 2 S_AB / (S_AA + S_BB);  of the whole probe: 2 r / (1 + r)""",
    "corrected_slope": """\
each half of the probe as instrument for the other:  beta = (S_Ay + S_By) / (2 S_AB)""",
    "ledger": """\
share = sum_s sum_t drive_st / sum_s sum_t gain_st, a ratio of sums over seeds
Fieller's set: all r with (a - r b)^2 <= t^2 Var(a - r b);
    if skewed, the hull of this and bootstrap-t
drive_mid_t = -<(g_t + g_{t+1}) / 2, u_t>, exact for a quadratic loss
differences between arms are paired by seed; drive_t = |g_t| |u_t| cos_t, and a difference of
    products is divided over its factors by their Shapley values""",
    "retained_share": """\
share = sum_s (Y_s(arm) - Y_s(untrained)) / sum_s (Y_s(reference) - Y_s(untrained)); interval as
    for the ledger's shares;  what an arm prevents: 1 - share""",
    "bounds": """\
retained: mean_s max(share_s, 0);  lower limit for any distribution of seeds (Gaffke): quantile
    alpha of sum_i D_i x_i, (D_0, ..., D_R) ~ Dirichlet(1, ..., 1)
similar seeds: #{|D_s| < margin} / R, limits exact binomial (Clopper and Pearson)""",
    "mediation": """\
M_sa = m_s + alpha_a + e_sa;  Y_sa = c_s + tau_a + beta M_sa + e'_sa
TNIE = alpha beta,  PNDE = tau,  TE = TNIE + PNDE;  TNIE: quantiles of a product of t draws
TNIE(rho) = alpha (s1 / s2) (r - rho sqrt((1 - r^2) / (1 - rho^2))),  r where it vanishes""",
    "cross_world": """\
Y_s(a, M(b)): the procedure of arm a, run at the alignment that the same seed had under b
PNDE = mean_s Y_s(a, M(0)) - Y_s(0, M(0));  TNIE = mean_s Y_s(a, M(a)) - Y_s(a, M(0))
CDE(m) = mean_s Y_s(a, m) - Y_s(0, m);  intervals as for contrasts""",
    "dose_trend": """\
slope within seeds: interval as for contrasts;  Page's L for a monotone trend
bands for all D doses at once: a line by Hotelling's T^2, a monotone curve from t limits at
    level 1 - (1 - level) / D, sharpened by monotonicity""",
    "published": """\
one more run: mean(x) -+ t(R-1) sd(x) sqrt(1 + 1/R)""",
    "instruments": """\
beta = mean_s slope(Y_s on dose) / mean_s slope(M_s on dose), Fieller's set
Anderson-Rubin: Hotelling's T^2 of dY_s - b dM_s over all doses;  Sargan: doses agree on beta
2SLS: b = (P M)'Y / (P M)'M within seeds, P the projection on the instruments; CR1, t(R-1)
plausibly exogenous: the union of Fieller's sets of (slope(Y) - gamma) / slope(M) over direct
    effects |gamma| <= direct of a dose
intercept: weighted line through (dM, dY) of the doses, jackknife over seeds""",
}
"""Texts by heading: a method's name, or that of several in `SHARED`."""
SHARED = {
    "replicate_counts": "descriptions",
    "seed_range": "descriptions",
    "run_totals": "descriptions",
    "common_seeds": "descriptions",
    "explained_share": "ledger",
    "ledger_difference": "ledger",
    "drive_factors": "ledger",
    "mediation_sensitivity": "mediation",
    "removed_share": "retained_share",
    "seed_mean": "arm_mean",
    "slope_model": "step_slope",
    "run_difference": "paired_contrast",
    "run_equivalence": "equivalence",
    "controlled_direct": "cross_world",
    "clamp_error": "cross_world",
    "mundlak": "step_slope",
    "retained_bound": "bounds",
    "similar_seeds": "bounds",
    "collapse_loss": "bounds",
    "plausibly_exogenous": "instruments",
    "iv_linear_dose": "instruments",
    "iv_2sls": "instruments",
    "anderson_rubin": "instruments",
    "wald_by_dose": "instruments",
    "egger_intercept": "instruments",
}
"""Headings of the methods that have no text of their own."""
