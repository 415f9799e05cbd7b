# Install Onebar as a Windows service with NSSM, from this checkout. Run again to upgrade.
#   powershell -ExecutionPolicy Bypass -File ops\windows\install.ps1 [-Data C:\ProgramData\Onebar] [-Nssm nssm.exe]
# Needs an elevated prompt, Python 3.11 or newer, and nssm.exe (https://nssm.cc) in the path.
param(
    [string]$Data = "$env:ProgramData\Onebar",
    [string]$Nssm = "nssm.exe",
    [string]$Python = "python",
    [string]$Service = "Onebar"
)
$ErrorActionPreference = "Stop"

function Invoke-Checked {
    # PowerShell goes on after a program that failed; an installation must not.
    param([string]$Program, [string[]]$Arguments)
    & $Program @Arguments
    if ($LASTEXITCODE -ne 0) { throw "$Program $($Arguments -join ' ') ended with $LASTEXITCODE" }
}

$identity = [Security.Principal.WindowsPrincipal][Security.Principal.WindowsIdentity]::GetCurrent()
if (-not $identity.IsInRole([Security.Principal.WindowsBuiltInRole]::Administrator)) {
    throw "Installing a service needs an elevated prompt (Run as administrator)."
}
if (-not (Get-Command $Nssm -ErrorAction SilentlyContinue)) {
    throw "nssm.exe was not found. Get it from https://nssm.cc or: winget install NSSM.NSSM"
}
$checkout = (Resolve-Path (Join-Path $PSScriptRoot "..\..")).Path
$venv = Join-Path $checkout ".venv"
$venvPython = Join-Path $venv "Scripts\python.exe"
Invoke-Checked $Python @("-c", "import sys; sys.exit(sys.version_info < (3, 11))")
if (-not (Test-Path $venvPython)) { Invoke-Checked $Python @("-m", "venv", $venv) }
Invoke-Checked $venvPython @("-m", "pip", "install", "--quiet", "-r", (Join-Path $checkout "requirements.txt"))
Invoke-Checked $venvPython @("-m", "pip", "install", "--quiet", "--no-deps", "-e", $checkout)

$logs = Join-Path $Data "logs"
New-Item -ItemType Directory -Force -Path $Data, $logs | Out-Null
$settings = Join-Path $Data "scheduler.toml"
if (-not (Test-Path $settings)) { Copy-Item (Join-Path $checkout "scheduler.toml") $settings }
# Bots, trades and settings are for the service and administrators only.
Invoke-Checked "icacls.exe" @($Data, "/inheritance:r", "/grant:r", "*S-1-5-18:(OI)(CI)F", "*S-1-5-32-544:(OI)(CI)F", "*S-1-5-19:(OI)(CI)M")
# The service account (LocalService) reads the program, it does not write it.
Invoke-Checked "icacls.exe" @($checkout, "/grant", "*S-1-5-19:(OI)(CI)RX")

$state = (Get-Service -Name $Service -ErrorAction SilentlyContinue)
if ($state) { & $Nssm stop $Service | Out-Null }
else { Invoke-Checked $Nssm @("install", $Service, (Join-Path $venv "Scripts\python.exe")) }

$settingsOfService = [ordered]@{
    Application          = $venvPython
    AppParameters        = "-m scheduler.command run"
    AppDirectory         = $Data
    DisplayName          = "Onebar trading bots"
    Description          = "Trading bots, one bar at a time. One bar is one transaction."
    Start                = "SERVICE_DELAYED_AUTO_START"
    ObjectName           = "NT AUTHORITY\LocalService"
    AppStdout            = (Join-Path $logs "onebar.log")
    AppStderr            = (Join-Path $logs "onebar.log")
    AppRotateFiles       = "1"
    AppRotateOnline      = "1"
    AppRotateBytes       = "10485760"
    AppRotateSeconds     = "86400"
    # First Ctrl-C, which the service takes as SIGINT: it has longer than stop_timeout_s to end in order.
    AppStopMethodConsole = "40000"
    AppStopMethodWindow  = "1000"
    AppStopMethodThreads = "1000"
    AppKillProcessTree   = "1"
    # A service that ends sooner than this waits before it is started again, longer each time.
    AppThrottle          = "5000"
    AppRestartDelay      = "2000"
}
foreach ($name in $settingsOfService.Keys) {
    Invoke-Checked $Nssm @("set", $Service, $name, $settingsOfService[$name])
}
Invoke-Checked $Nssm @("set", $Service, "AppEnvironmentExtra", "PYTHONUNBUFFERED=1", "PYTHONUTF8=1")
# What each exit code asks for: 0 stopped as asked; 2 settings wrong; 6 refused, another service runs
# on this database; anything else (killed, hung) is started again.
Invoke-Checked $Nssm @("set", $Service, "AppExit", "Default", "Restart")
foreach ($code in "0", "2", "6") { Invoke-Checked $Nssm @("set", $Service, "AppExit", $code, "Exit") }

Invoke-Checked $Nssm @("start", $Service)
Write-Host "Onebar runs as service $Service. Data and settings: $Data. Log: $logs\onebar.log"
Write-Host "The commands, from $Data : $venv\Scripts\jobs.exe list"
