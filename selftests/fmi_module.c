// SPDX-License-Identifier: GPL-2.0
/* Loading and unloading the module. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fmi_ksft.h"
#include "fmi_util.h"

bool module_loaded(void)
{
	return access("/sys/module/" FMI_NAME, F_OK) == 0;
}

/* The module's file: FMI_MODULE, or beside this program. */
static int module_open_given(void)
{
	const char *given = getenv("FMI_MODULE");
	char path[512];
	ssize_t len;
	char *slash;

	if (given && *given)
		return open(given, O_RDONLY | O_CLOEXEC);
	len = readlink("/proc/self/exe", path, sizeof(path) - 64);
	if (len <= 0)
		return -1;
	path[len] = '\0';
	slash = strrchr(path, '/');
	snprintf(slash ? slash : path, 64, "/" FMI_NAME ".ko");
	return open(path, O_RDONLY | O_CLOEXEC);
}

static int run_modprobe(const char *params)
{
	char command[320];
	int status;
	pid_t pid;

	/* The shell takes the parameters apart; modprobe quotes a blank in one. */
	snprintf(command, sizeof(command), "exec modprobe %s %s", FMI_NAME, params);
	pid = fork();
	if (pid == 0) {
		execl("/bin/sh", "sh", "-c", command, NULL);
		_exit(127);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return -ECHILD;
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -ENOENT;
}

int module_load(const char *given)
{
	const char *backend = getenv("FMI_BACKEND");
	int fd = module_open_given();
	char params[256];
	int ret;

	/* FMI_BACKEND is for all cases but those that say another one. */
	if (!backend || !*backend || strstr(given, "backend="))
		snprintf(params, sizeof(params), "%s", given);
	else
		snprintf(params, sizeof(params), "%s backend=%s", given, backend);
	if (fd < 0)
		return run_modprobe(params);
	ret = syscall(SYS_finit_module, fd, params, 0) ? -errno : 0;
	close(fd);
	return ret;
}

int module_open(void)
{
	struct utsname uts;
	char path[512];
	int fd = module_open_given();

	if (fd < 0) {
		fmi_assert(!uname(&uts), "uname: %s", strerror(errno));
		snprintf(path, sizeof(path), "/lib/modules/%s/updates/" FMI_NAME ".ko",
			 uts.release);
		fd = open(path, O_RDONLY | O_CLOEXEC);
	}
	if (fd < 0)
		fmi_skip("the file of the module was not found");
	return fd;
}

int module_load_file(const char *params)
{
	int fd = module_open();
	int ret;

	ret = syscall(SYS_finit_module, fd, params, 0) ? -errno : 0;
	close(fd);
	return ret;
}

int module_unload(void)
{
	return syscall(SYS_delete_module, FMI_NAME, O_NONBLOCK) ? -errno : 0;
}

void module_needs_faults(void)
{
	if (access("/sys/module/" FMI_NAME "/parameters/fault_blind", F_OK) == 0)
		return;
	fmi_assert(!getenv("FMI_FAULTS"), "this module should have planted faults");
	fmi_skip("built without FMI_FAULTS");
}

void module_plant(const char *fault, unsigned int value)
{
	char path[128];
	char text[16];

	snprintf(path, sizeof(path), "/sys/module/" FMI_NAME "/parameters/%s", fault);
	snprintf(text, sizeof(text), "%u", value);
	fmi_assert(write_text(path, text) > 0, "cannot write %s", path);
}

/* Whether the loaded module is told by tracepoints, not by hooks on functions. */
bool module_uses_tracepoints(void)
{
	static char text[1 << 16];
	char backend[32];
	int ret = fmi_read("stats", text, sizeof(text));

	fmi_assert(ret > 0, "stats: %s", strerror(-ret));
	fmi_assert(text_find(text, "backend", backend, sizeof(backend)), "no backend in stats");
	return !strcmp(backend, "tracepoints");
}

/* For cases about what only hooks on functions cannot see at once. */
void module_needs_windows(void)
{
	if (module_uses_tracepoints())
		fmi_skip("there are no windows with tracepoints");
}

void module_ready(void)
{
	char text[16];
	int ret;

	if (!module_loaded()) {
		ret = module_load("");
		fmi_assert(ret == 0, "cannot load the module: %s", strerror(-ret));
	}
	/* An earlier case may have left its filter. */
	ret = fmi_write("filter", "order=any type=any disagreeing=0");
	fmi_assert(ret > 0, "cannot write filter: %s", strerror(-ret));
	ret = fmi_write("examples", "any");
	fmi_assert(ret > 0, "cannot write examples: %s", strerror(-ret));
	ret = fmi_read("enable", text, sizeof(text));
	fmi_assert(ret > 0, "cannot read enable: %s", strerror(-ret));
	if (text[0] == '1')
		return;
	ret = fmi_write("enable", "1");
	fmi_assert(ret > 0, "cannot enable: %s", strerror(-ret));
}
