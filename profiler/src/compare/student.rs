//! Student's t distribution: how far a mean lies from another by chance.

/// The chance that a value of the distribution is over `t`, with `df` degrees of freedom.
pub fn chance_over(t: f64, df: f64) -> f64 {
    let half = 0.5 * incomplete_beta(df / 2.0, 0.5, df / (df + t * t));
    if t >= 0.0 { half } else { 1.0 - half }
}

/// The value that is exceeded with this chance (below one half).
pub fn quantile(chance: f64, df: f64) -> f64 {
    let (mut low, mut high) = (0.0, 1e9);
    // Halving an interval of 1e9 so often leaves less than a billionth of the smallest value of use.
    for _ in 0..100 {
        let middle = f64::midpoint(low, high);
        if chance_over(middle, df) > chance {
            low = middle;
        } else {
            high = middle;
        }
    }
    high
}

/// The regularized incomplete beta function, by its continued fraction (Abramowitz and Stegun 26.5.8).
fn incomplete_beta(a: f64, b: f64, x: f64) -> f64 {
    if x <= 0.0 {
        return 0.0;
    }
    if x >= 1.0 {
        return 1.0;
    }
    // The fraction converges quickly on this side only.
    if x > (a + 1.0) / (a + b + 2.0) {
        return 1.0 - incomplete_beta(b, a, 1.0 - x);
    }
    let front = (ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b) + a * x.ln() + b * (1.0 - x).ln()).exp() / a;
    front * fraction(a, b, x)
}

/// By Lentz's method.
fn fraction(a: f64, b: f64, x: f64) -> f64 {
    const TINY: f64 = 1e-300;
    let bounded = |value: f64| if value.abs() < TINY { TINY } else { value };
    let (mut c, mut d) = (1.0, 1.0 / bounded(1.0 - (a + b) * x / (a + 1.0)));
    let mut result = d;
    for step in 1..500 {
        let m = f64::from(step);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        for term in [even, odd] {
            d = 1.0 / bounded(1.0 + term * d);
            c = bounded(1.0 + term / c);
            result *= c * d;
        }
        if (c * d - 1.0).abs() < 1e-14 {
            break;
        }
    }
    result
}

/// The logarithm of the gamma function, by Lanczos' approximation.
fn ln_gamma(x: f64) -> f64 {
    const COEFFICIENTS: [f64; 6] = [
        76.180_091_729_471_46,
        -86.505_320_329_416_77,
        24.014_098_240_830_91,
        -1.231_739_572_450_155,
        0.001_208_650_973_866_179,
        -0.000_005_395_239_384_953,
    ];
    let terms = COEFFICIENTS.iter().zip(1..).map(|(coefficient, n)| coefficient / (x + f64::from(n)));
    let sum: f64 = 1.000_000_000_190_015 + terms.sum::<f64>();
    let base = x + 5.5;
    (x + 0.5) * base.ln() - base + (2.506_628_274_631_000_5 * sum / x).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_tables() {
        for (chance, df, expected) in
            [(0.05, 1.0, 6.314), (0.025, 4.0, 2.776), (0.001, 4.0, 7.173), (0.005, 10.0, 3.169), (0.001, 1e6, 3.090)]
        {
            let found = quantile(chance, df);
            assert!((found - expected).abs() < 0.001, "{chance}, {df}: {found}");
            assert!((chance_over(found, df) - chance).abs() < 1e-6);
        }
        assert!((chance_over(0.0, 3.0) - 0.5).abs() < 1e-9);
        assert!((chance_over(-6.314, 1.0) - 0.95).abs() < 1e-4);
    }
}
